//! Short scripts for the Pi's `sh`. Variable parts are arguments, secrets come on standard input.

use crate::commands::shell::quoted;

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

/// Sets up the door with the files of a tar archive on standard input. Its arguments are those of
/// `door-agent install`.
const SET_UP: &str = r#"
set -e
umask 077
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'exit 129' HUP; trap 'exit 130' INT; trap 'exit 143' TERM
tar -xf - -C "$folder"
[ ! -e "$folder/ca.pem" ] || set -- "$@" --ca "$folder/ca.pem"
door-agent install "$@" --no-wait --connection-string "$folder/connection-string" \
    --config "$folder/toml" </dev/null
"#;

/// Prints the door's status and the end of its log.
const STATUS: &str = r#"
door-agent status --config "/etc/door-agent/$1.toml" 2>&1 || true
journalctl -u "door-agent@$1" -n 5 -o cat --no-pager 2>/dev/null || true
"#;

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

    pub(super) fn set_up(door: &str, force: bool) -> Self {
        let arguments: &[&str] = if force { &["--force", door] } else { &[door] };
        Self::new("setting up the door", true, SET_UP, arguments)
    }

    pub(super) fn status(door: &str) -> Self {
        Self::new("reading the status", true, STATUS, &[door])
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
