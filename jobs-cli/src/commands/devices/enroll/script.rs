//! Short scripts for the Pi's `sh`. Variable parts are arguments, secrets come on standard input.

#[derive(Debug, Clone)]
pub(super) struct Script {
    /// Name of the step in errors.
    pub(super) step: &'static str,
    root: bool,
    text: &'static str,
    arguments: Vec<String>,
}

/// Prints the facts about the Pi as lines of key=value.
const INSPECT: &str = r#"
echo "machine=$(uname -m)"
echo "architecture=$(dpkg --print-architecture 2>/dev/null)"
as=
if [ "$(id -u)" = 0 ]; then echo root=user; elif sudo -n true 2>/dev/null; then as="sudo -n"; echo root=sudo; fi
echo "installed=$(dpkg-query -W -f '${db:Status-Status} ${Version}' door-agent 2>/dev/null)"
[ ! -d /run/systemd/system ] || echo systemd=yes
if $as test -e "/etc/door-agent/$1.toml"; then echo config=yes; fi
echo "service=$(systemctl is-active "door-agent@$1" 2>/dev/null)"
"#;

/// Prints the settings.
const READ: &str = r#"cat "/etc/door-agent/$1.toml""#;

/// Installs the package from standard input.
const INSTALL: &str = r#"
set -e
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/door-agent.deb"
name=$(dpkg-deb -f "$folder/door-agent.deb" Package)
[ "$name" = door-agent ] || { echo "the package is one of $name, expected door-agent" >&2; exit 1; }
chmod 755 "$folder"
DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=120 \
    -o Dpkg::Options::=--force-confold "$folder/door-agent.deb" </dev/null
echo "version=$(dpkg-query -W -f '${Version}' door-agent)"
"#;

/// Stores standard input next to the active settings, for root only.
const STAGE: &str = r#"
set -e
umask 077
folder=/etc/door-agent/.enroll-$1
mkdir -p "$folder"
cat >"$folder/$2"
"#;

/// Checks the staged settings together with the drop-ins that will apply to them.
const CHECK: &str = r#"
set -e
folder=/etc/door-agent/.enroll-$1
rm -rf "$folder/$1.toml.d"
[ ! -d "/etc/door-agent/$1.toml.d" ] || cp -R "/etc/door-agent/$1.toml.d" "$folder/"
door-agent check --config "$folder/$1.toml"
"#;

/// Moves the staged files into place; prints for each whether it is new, changed or the same. When
/// files of a running door changed, stores systemd's invocation id of this run as a mark.
const PLACE: &str = r#"
set -e
from=/etc/door-agent/.enroll-$1 to=/etc/door-agent changed=
place() {
    [ -e "$from/$1" ] || return 0
    if [ ! -e "$to/$1" ]; then what=new
    elif cmp -s "$from/$1" "$to/$1"; then what=same
    else what=changed
    fi
    chmod "$2" "$from/$1"
    if [ "$what" = same ]; then chmod "$2" "$to/$1"
    else
        changed=yes
        [ "$what$3" != changedkeep ] || cp -p "$to/$1" "$to/$1.bak"
        mv -f "$from/$1" "$to/$1"
    fi
    echo "$4=$what"
}
place "$1.connection-string" 600 no key
place "$1.ca.pem" 644 no ca
place "$1.toml" 644 keep config
rm -rf "$from"
sync
if [ -n "$changed" ] && systemctl is-active --quiet "door-agent@$1"; then
    systemctl show -P InvocationID "door-agent@$1" >"/run/doorctl-enroll-$1"
fi
"#;

/// Starts the door unless it runs; prints whether it runs with replaced files or a replaced
/// program.
const START: &str = r#"
set -e
unit=door-agent@$1 mark=/run/doorctl-enroll-$1
systemctl enable --quiet "$unit" door-agent-reboot.path
systemctl start door-agent-reboot.path
if systemctl is-active --quiet "$unit"; then
    state=running
    case $(readlink "/proc/$(systemctl show -P MainPID "$unit")/exe") in *"(deleted)") state=stale ;; esac
    if [ -e "$mark" ] && [ "$(cat "$mark")" = "$(systemctl show -P InvocationID "$unit")" ]; then state=stale; fi
    echo "state=$state"
else
    systemctl reset-failed "$unit" 2>/dev/null || true
    systemctl restart "$unit" || { journalctl -u "$unit" -n 8 -o cat --no-pager >&2; exit 1; }
    echo state=started
fi
"#;

/// Restarts the door when its lock may move; prints whether it was left alone, or is down.
const RESTART: &str = r#"
status=0
door-agent restart "$@" || status=$?
for unit do :; done
case $status in
    0) ;;
    3) echo door=alone ;;
    *) systemctl is-active --quiet "door-agent@$unit" || echo door=down ;;
esac
exit "$status"
"#;

/// Prints the door's status and the end of its log.
const STATUS: &str = r#"
door-agent status --config "/etc/door-agent/$1.toml" 2>&1 || true
journalctl -u "door-agent@$1" -n 5 -o cat --no-pager 2>/dev/null || true
"#;

/// Removes the staged files.
const UNSTAGE: &str = r#"rm -rf "/etc/door-agent/.enroll-$1""#;

impl Script {
    fn new(step: &'static str, root: bool, text: &'static str, arguments: &[&str]) -> Self {
        Self {
            step,
            root,
            text: text.trim(),
            arguments: arguments
                .iter()
                .map(|&argument| argument.to_owned())
                .collect(),
        }
    }

    pub(super) fn inspect(door: &str) -> Self {
        Self::new("inspecting the Pi", false, INSPECT, &[door])
    }

    pub(super) fn read(door: &str) -> Self {
        Self::new("reading the settings", true, READ, &[door])
    }

    pub(super) fn install() -> Self {
        Self::new("installing the package", true, INSTALL, &[])
    }

    pub(super) fn stage(door: &str, suffix: &str) -> Self {
        Self::new(
            "sending the settings",
            true,
            STAGE,
            &[door, &format!("{door}.{suffix}")],
        )
    }

    pub(super) fn check(door: &str) -> Self {
        Self::new("checking the settings", true, CHECK, &[door])
    }

    pub(super) fn place(door: &str) -> Self {
        Self::new("putting the settings in place", true, PLACE, &[door])
    }

    pub(super) fn start(door: &str) -> Self {
        Self::new("starting the door", true, START, &[door])
    }

    pub(super) fn restart(door: &str, force: bool) -> Self {
        let arguments: &[&str] = if force { &["--force", door] } else { &[door] };
        Self::new("restarting the door", true, RESTART, arguments)
    }

    pub(super) fn status(door: &str) -> Self {
        Self::new("reading the status", true, STATUS, &[door])
    }

    pub(super) fn unstage(door: &str) -> Self {
        Self::new("cleaning up", true, UNSTAGE, &[door])
    }

    /// The text of the script.
    pub(super) fn text(&self) -> &'static str {
        self.text
    }

    /// The command with `$script` in place of the text.
    pub(super) fn shown(&self, sudo: bool) -> String {
        self.command(sudo, "\"$script\"")
    }

    /// The single argument that ssh passes to the login shell of the Pi.
    pub(super) fn remote_command(&self, sudo: bool) -> String {
        self.command(sudo, &quoted(self.text))
    }

    fn command(&self, sudo: bool, script: &str) -> String {
        let sudo = if sudo && self.root { "sudo -n " } else { "" };
        let words = self
            .arguments
            .iter()
            .map(|word| format!(" {}", quoted(word)));
        format!("{sudo}sh -c {script} enroll{}", words.collect::<String>())
    }
}

/// A word quoted for a POSIX shell.
pub(super) fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"@%+=:,./-_".contains(&byte);
    match word.bytes().all(plain) && !word.is_empty() {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_the_shell_when_they_need_it() {
        for (word, expected) in [
            ("lobby-east", "lobby-east"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn only_scripts_that_need_root_use_sudo() {
        let read = Script::read("lobby-east");
        assert_eq!(
            read.remote_command(true),
            r#"sudo -n sh -c 'cat "/etc/door-agent/$1.toml"' enroll lobby-east"#
        );
        assert!(read.remote_command(false).starts_with("sh -c "));
        assert!(
            Script::inspect("a")
                .remote_command(true)
                .starts_with("sh -c ")
        );
    }
}
