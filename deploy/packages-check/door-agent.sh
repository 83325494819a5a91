# Steps of packages-check.sh for door-agent: doors of three kinds go through an upgrade.

stage="on an ARMv6"
touch "$root/armv6"
! inside dpkg -i /packages/door-agent.deb >"$work/output" 2>&1 ||
    die "$stage: the package was installed"
grep -q 'this machine is ARMv6' "$work/output" ||
    die "$stage: the reason is missing: $(cat "$work/output")"
absent usr/bin/door-agent etc/door-agent/example.toml
rm "$root/armv6"
echo "$stage: refused"

stage="installed"
inside dpkg -i /packages/door-agent.deb >"$work/output" 2>&1 || die "$stage: $(cat "$work/output")"
present usr/bin/door-agent usr/lib/systemd/system/door-agent@.service \
    usr/lib/systemd/system/door-agent-reboot.path usr/lib/udev/rules.d/60-door-agent.rules \
    usr/share/man/man1/door-agent.1.gz usr/share/man/man1/door-agent-check.1.gz \
    usr/share/bash-completion/completions/door-agent \
    usr/share/zsh/vendor-completions/_door-agent run/door-agent
grep -q '^gpio:.*:door-agent$' "$root/etc/group" || die "$stage: the user is not in group gpio"
[ "$(stat -c %a "$root/run/door-agent")" = 2770 ] || die "$stage: /run/door-agent has another mode"
inside dpkg-query -W -f '${Conffiles}' door-agent | grep -q /etc/door-agent/example.toml ||
    die "$stage: the example is not a conffile"
inside door-agent check --config /etc/door-agent/example.toml >"$work/output" 2>&1 || true
# Only the example's key, which it cannot have, may be wrong.
grep -q 'example.connection-string' "$work/output" ||
    die "$stage: the example has another mistake than its missing key: $(cat "$work/output")"
asked "enable --now door-agent-reboot.path"
echo "$stage: program, units, user, folders, manual and example are there"

stage="upgraded"
# A door that is locked without power, one that power keeps locked, and one whose agent does not
# answer.
door() { # door NAME STRIKE
    printf '[hub]\nmqtt_port = 1\n[strike]\n%s\n[board]\nkind = "simulated"\n' "$2" \
        >"$root/etc/door-agent/$1.toml"
    key=bm9ib2R5IG9wZW5zIGEgZG9vciB3aXRoIHRoaXM=
    printf 'HostName=127.0.0.1;DeviceId=%s;SharedAccessKey=%s' "$1" "$key" \
        >"$root/etc/door-agent/$1.connection-string"
    chmod 600 "$root/etc/door-agent/$1.connection-string"
}
door lobby 'kind = "hold-strike"
fail = "secure"'
door cellar 'kind = "maglock"
[door]
egress = "hardware-release"'
for name in lobby cellar; do
    inside systemctl start "door-agent@$name.service"
    for _ in $(seq 100); do
        if inside door-agent status --config "/etc/door-agent/$name.toml" 2>"$work/output" |
            grep -q "^$name: locked"; then
            break
        fi
        sleep 0.1
    done
    inside door-agent status --config "/etc/door-agent/$name.toml" >"$work/output" 2>&1 ||
        die "$stage: $name is not running: $(cat "$work/output" "$root/var/log/$name.log")"
    grep -q "^$name: locked" "$work/output" ||
        die "$stage: $name is not locked: $(cat "$work/output")"
done
mkdir -p "$root/var/lib/door-agent/attic"
echo 'slots' >"$root/var/lib/door-agent/attic/slots"
door attic 'kind = "maglock"
[door]
egress = "hardware-release"'
# A process that does not answer.
sleep 600 &
echo $! >"$root/run/units/door-agent@attic"
echo '# changed here' >>"$root/etc/door-agent/example.toml"
kept() {
    (cd "$root" && find etc/door-agent var/lib/door-agent/attic -type f -exec sha256sum {} + | sort)
}
before=$(kept)
cellar=$(cat "$root/run/units/door-agent@cellar")
: >"$root/systemctl.log"
inside dpkg -i /packages/door-agent-next.deb >"$work/output" 2>&1 ||
    die "$stage: $(cat "$work/output")"
[ "$(kept)" = "$before" ] || die "$stage: configuration, keys or slots have changed"
asked daemon-reload
asked "restart door-agent@lobby.service"
grep -qxF 'lobby: restarted; the lock stayed locked' "$work/output" ||
    die "$stage: the restart is not reported: $(cat "$work/output")"
[[ "$(program_of door-agent@lobby)" != *'(deleted)' ]] || die "$stage: lobby runs the old program"
[ "$(grep -vx 'start door-agent-reboot.path' "$root/systemctl.log" |
    grep -cE '^(stop|restart|try-restart|reload-or-restart|start|kill)')" = 1 ] ||
    die "$stage: more than one unit was stopped or started: $(cat "$root/systemctl.log")"
for name in cellar attic; do
    line="door-agent: door-agent@$name.service goes on with the program it was started with; "
    line+="to finish the upgrade: door-agent restart $name"
    grep -qxF "$line" "$work/output" ||
        die "$stage: $name, which keeps running, is not reported: $(cat "$work/output")"
done
grep -q '^error: cellar is not restarted .*power keeps the lock locked' "$work/output" ||
    die "$stage: the reason why cellar is not restarted is missing: $(cat "$work/output")"
[ "$(cat "$root/run/units/door-agent@cellar")" = "$cellar" ] &&
    [[ "$(program_of door-agent@cellar)" == *'(deleted)' ]] ||
    die "$stage: cellar does not run its old program"
echo "$stage: slots, keys and settings are unchanged; the door that stays locked without power" \
    "was restarted, the others keep running and are reported"

stage="restarted by hand"
! inside door-agent restart cellar >"$work/output" 2>&1 ||
    die "$stage: cellar was restarted, although power keeps the lock locked"
inside door-agent restart --force cellar >"$work/output" 2>&1 || die "$stage: $(cat "$work/output")"
[[ "$(program_of door-agent@cellar)" != *'(deleted)' ]] || die "$stage: cellar runs the old program"
echo "$stage: the other door, with --force"

stage="not started again"
touch "$root/broken"
inside dpkg -i /packages/door-agent-next.deb >"$work/output" 2>&1 ||
    die "$stage: $(cat "$work/output")"
grep -q '^door-agent: door-agent@lobby.service could not be restarted' "$work/output" ||
    die "$stage: lobby is not reported: $(cat "$work/output")"
grep -q '^door-agent: door-agent@cellar.service goes on ' "$work/output" ||
    die "$stage: cellar is not reported: $(cat "$work/output")"
rm "$root/broken"
echo "$stage: the door that could not be restarted is reported as stopped"
for name in cellar attic; do
    kill "$(cat "$root/run/units/door-agent@$name")"
    rm "$root/run/units/door-agent@$name"
done

stage="removed"
: >"$root/systemctl.log"
inside dpkg -r door-agent >"$work/output" 2>&1 || die "$stage: $(cat "$work/output")"
absent usr/bin/door-agent usr/lib/systemd/system/door-agent@.service
present etc/door-agent/lobby.connection-string var/lib/door-agent/attic/slots \
    var/lib/door-agent/lobby
asked "stop door-agent@*.service"
echo "$stage: settings, keys and slots are kept"

stage="installed again"
mkdir -p "$root/etc/systemd/system/multi-user.target.wants"
ln -s /usr/lib/systemd/system/door-agent@.service \
    "$root/etc/systemd/system/multi-user.target.wants/door-agent@lobby.service"
: >"$root/systemctl.log"
inside dpkg -i /packages/door-agent-next.deb >"$work/output" 2>&1 ||
    die "$stage: $(cat "$work/output")"
asked "start door-agent-reboot.path"
line='door-agent: door-agent@lobby.service is enabled and does not run; '
line+='to start it: systemctl start door-agent@lobby'
grep -qxF "$line" "$work/output" ||
    die "$stage: lobby, which is stopped, is not reported: $(cat "$work/output")"
echo "$stage: a door stopped by the removal is reported"

stage="purged"
mkdir "$root/etc/door-agent/.enroll-attic"
touch "$root/etc/door-agent/lobby.key" "$root/etc/door-agent/.enroll-attic/attic.connection-string"
inside dpkg -P door-agent >"$work/output" 2>&1 || die "$stage: $(cat "$work/output")"
absent etc/door-agent/lobby.connection-string etc/door-agent/lobby.key \
    etc/door-agent/.enroll-attic var/lib/door-agent etc/door-agent/example.toml run/door-agent
present etc/door-agent/lobby.toml
echo "$stage: keys and state are deleted, the operator's settings are kept"
