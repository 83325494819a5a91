# Steps of packages-check.sh for door-hub: upgrade and removal keep its data, a purge deletes it.

data=var/lib/private/door-hub
hub_keys() {
    (cd "$root/$data" && find . -type f \( -name '*.pem' -o -name '*.key' -o -name '*.toml' \
        -o -name '*connection-string*' \) -exec sha256sum {} + | sort)
}
# hub_serves STARTS: waits until it has logged this number of starts and runs.
hub_serves() {
    for _ in $(seq 100); do
        if [ "$(grep -c 'REST API' "$root/var/log/door-hub.log")" = "$1" ] &&
            inside door-hub policy list --data /var/lib/door-hub >"$work/output" 2>&1; then
            return 0
        fi
        sleep 0.1
    done
    die "$stage: the hub is not running: $(cat "$work/output" "$root/var/log/door-hub.log")"
}

stage="installed"
inside dpkg -i /packages/door-hub.deb >"$work/output" 2>&1 || die "$stage: $(cat "$work/output")"
present usr/bin/door-hub usr/lib/systemd/system/door-hub.service \
    usr/lib/systemd/system/door-hub-backup.service \
    usr/lib/systemd/system/door-hub-backup.timer \
    usr/share/man/man1/door-hub.1.gz usr/share/man/man1/door-hub-serve.1.gz \
    usr/share/doc/door-hub/examples/hub.toml usr/share/bash-completion/completions/door-hub \
    usr/share/zsh/vendor-completions/_door-hub
asked daemon-reload
! grep -vx daemon-reload "$root/systemctl.log" ||
    die "$stage: a hub without a name was started or enabled"
grep -q 'door-hub: to start it: door-hub init ' "$work/output" ||
    die "$stage: the next step is missing: $(cat "$work/output")"
echo "$stage: program, unit, manual, completions and example are there, nothing is started"

stage="upgraded"
# The layout of systemd for a dynamic user.
mkdir -p "$root/$data"
ln -s private/door-hub "$root/var/lib/door-hub"
cp "$root/usr/share/doc/door-hub/examples/hub.toml" "$root/$data/hub.toml"
# Two free ports, the same for both starts: they are part of the connection string.
read -r mqtt https < <(python3 -c 'import socket
a, b = socket.create_server(("127.0.0.1", 0)), socket.create_server(("127.0.0.1", 0))
print(a.getsockname()[1], b.getsockname()[1])')
sed -i -e 's/^# listen = .*/listen = "127.0.0.1"/' -e "s/^# mqtt_port = .*/mqtt_port = $mqtt/" \
    -e "s/^# https_port = .*/https_port = $https/" "$root/$data/hub.toml"
inside systemctl start door-hub.service
hub_serves 1
before=$(hub_keys)
grep -q 'hub.toml$' <<<"$before" || die "$stage: there is no data to keep: $before"
: >"$root/systemctl.log"
inside dpkg -i /packages/door-hub-next.deb >"$work/output" 2>&1 ||
    die "$stage: $(cat "$work/output")"
asked daemon-reload
asked "try-restart door-hub.service"
hub_serves 2
[[ "$(program_of door-hub)" != *'(deleted)' ]] || die "$stage: the hub runs the old program"
[ "$(hub_keys)" = "$before" ] ||
    die "$stage: settings, certificates or keys have changed: $(diff <(echo "$before") <(hub_keys))"
echo "$stage: the hub runs the new program with the same settings, certificates and keys"

stage="removed"
: >"$root/systemctl.log"
inside dpkg -r door-hub >"$work/output" 2>&1 || die "$stage: $(cat "$work/output")"
asked "disable --now door-hub.service"
asked "disable --now door-hub-backup.timer"
absent usr/bin/door-hub usr/lib/systemd/system/door-hub.service run/units/door-hub
[ "$(hub_keys)" = "$before" ] ||
    die "$stage: settings, certificates or keys have changed: $(diff <(echo "$before") <(hub_keys))"
echo "$stage: the hub is stopped, its data is kept"

stage="installed again"
inside dpkg -i /packages/door-hub-next.deb >"$work/output" 2>&1 ||
    die "$stage: $(cat "$work/output")"
line='door-hub: its data exists, but it is not running; '
line+='to start it: systemctl enable --now door-hub'
grep -qxF "$line" "$work/output" ||
    die "$stage: the next step is missing: $(cat "$work/output")"
absent run/units/door-hub
echo "$stage: the message names the command that starts it"

stage="purged"
inside dpkg -P door-hub >"$work/output" 2>&1 || die "$stage: $(cat "$work/output")"
absent var/lib/door-hub "$data" usr/share/doc/door-hub
echo "$stage: its data is deleted"
