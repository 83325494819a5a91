//! Files that commands write: with any form of their path, and before the change whose result they
//! hold.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use doorfleet_testing::{CommandLine, CommandOutput, run};
use tempfile::TempDir;

use crate::program::program;

/// A data folder, and the folder where commands run.
struct Workspace {
    folder: TempDir,
}

impl Workspace {
    fn new() -> Self {
        let workspace = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        std::fs::create_dir(workspace.here()).unwrap();
        std::fs::create_dir(workspace.here().join("sub")).unwrap();
        workspace.run("init --name localhost --data DATA").expect(0);
        workspace
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn here(&self) -> PathBuf {
        self.folder.path().join("here")
    }

    /// Fills in a command line: DATA is the data folder and HERE the folder where it runs.
    fn line(&self, line: &str) -> String {
        line.replace("DATA", self.data().to_str().unwrap())
            .replace("HERE", self.here().to_str().unwrap())
    }

    fn run(&self, line: &str) -> CommandOutput {
        let mut command = Command::new(program());
        run(command
            .args(self.line(line).words())
            .current_dir(self.here()))
    }

    /// The keys of a policy in the database; empty strings if there is no such policy.
    fn keys(&self, policy: &str) -> Vec<String> {
        let key = |which| {
            let out = self.folder.path().join("seen");
            let out = out.to_str().unwrap();
            self.run(&format!(
                "policy show {policy} --key {which} --force --out {out} --data DATA"
            ));
            let seen = std::fs::read_to_string(out).unwrap_or_default();
            drop(std::fs::remove_file(out));
            seen
        };
        ["primary", "secondary"].map(key).to_vec()
    }

    /// The files in the folder where commands run.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.here()).unwrap();
        let name = |entry: std::fs::DirEntry| entry.file_name().into_string().unwrap();
        let mut names: Vec<_> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn an_output_file_may_be_given_in_any_form() {
    for name in ["file", "./file", "sub/file", "sub/../file", "HERE/file"] {
        let workspace = Workspace::new();
        for line in [
            "policy add alice --rights ServiceConnect --out FILE",
            "policy rotate alice --key primary --force --out FILE",
            "policy rotate iothubowner --key primary --force --out FILE",
            "policy show alice --force --out FILE",
            "policy token alice --force --out FILE",
            "backup --force FILE",
        ] {
            let line = line.replace("FILE", name) + " --data DATA";
            workspace.run(&line).expect(0);
            let path = workspace.here().join(workspace.line(name));
            assert_eq!(mode(&path), 0o600, "{line}");
            assert!(std::fs::metadata(path).unwrap().len() > 0, "{line}");
        }
        let line = format!("restore {name} --data restored");
        workspace.run(&line).expect(0);
        assert!(workspace.names().iter().all(|name| !name.starts_with('.')));
    }
}

#[test]
fn a_data_folder_may_be_given_in_any_form() {
    for data in ["new", "./new", "sub/new", "sub/.", "sub"] {
        let workspace = Workspace::new();
        workspace
            .run(&format!("init --name localhost --data {data}"))
            .expect(0);
        workspace.run("backup archive --data DATA").expect(0);
    }
    let workspace = Workspace::new();
    workspace.run("backup ../archive --data DATA").expect(0);
    std::fs::remove_dir(workspace.here().join("sub")).unwrap();
    workspace.run("restore ../archive --data .").expect(0);
    assert!(workspace.here().join("hub.db").exists());
}

/// None of these files can be written: the command fails, and the keys stay the same.
#[test]
fn a_file_that_cannot_be_written_leaves_the_keys_unchanged() {
    let workspace = Workspace::new();
    std::fs::write(workspace.here().join("taken"), "mine").unwrap();
    workspace
        .run("policy add alice --rights ServiceConnect --out alice --data DATA")
        .expect(0);
    std::fs::write(workspace.here().join("alice"), "mine").unwrap();
    let (names, alice, owner) = (
        workspace.names(),
        workspace.keys("alice"),
        workspace.keys("iothubowner"),
    );
    assert_ne!(alice[0], alice[1]);
    for line in [
        "policy add bob --rights ServiceConnect --out FILE",
        "policy rotate alice --key primary --out FILE",
        "policy rotate alice --key secondary --out FILE",
        "policy rotate iothubowner --key primary --out FILE",
        "policy show alice --out FILE",
        "policy token alice --out FILE",
        "backup FILE",
    ] {
        for (file, expected) in [
            ("none/file", "No such file"),
            ("taken", "already exists"),
            ("taken/file", "Not a directory"),
            ("sub", "already exists"),
            ("sub --force", "is not a regular file"),
            (". --force", "is not a regular file"),
            ("/dev/full --force", "is not a regular file"),
            ("/dev/stdout --force", "is not a regular file"),
            ("/proc/file", "cannot"),
        ] {
            let line = line.replace("FILE", file) + " --data DATA";
            println!("{line}");
            workspace.run(&line).expect(1).says(&[expected]);
        }
    }
    assert_eq!(workspace.names(), names);
    assert_eq!(
        std::fs::read_to_string(workspace.here().join("taken")).unwrap(),
        "mine"
    );
    assert_eq!(workspace.keys("alice"), alice);
    assert_eq!(workspace.keys("iothubowner"), owner);
    assert_eq!(workspace.keys("bob"), ["", ""]);
}

/// No file may grow, as on a full disk.
#[test]
fn a_full_disk_leaves_the_keys_unchanged() {
    let workspace = Workspace::new();
    workspace
        .run("policy add alice --rights ServiceConnect --out alice --data DATA")
        .expect(0);
    let (names, before) = (workspace.names(), workspace.keys("alice"));
    let old = std::fs::read_to_string(workspace.here().join("alice")).unwrap();
    for line in [
        "policy add bob --rights ServiceConnect --out file",
        "policy rotate alice --key primary --out file",
        "policy rotate alice --key primary --out alice --force",
        "backup file",
        "backup alice --force",
    ] {
        let line = workspace.line(&format!("{line} --data DATA"));
        let program = program().display();
        let limited = format!("trap '' XFSZ; ulimit -f 0; {program} {line}");
        let mut shell = Command::new("sh");
        run(shell.args(["-c", &limited]).current_dir(workspace.here())).expect(1);
        assert_eq!(workspace.names(), names, "{line}");
    }
    assert_eq!(workspace.keys("alice"), before);
    assert_eq!(workspace.keys("bob"), ["", ""]);
    assert_eq!(
        std::fs::read_to_string(workspace.here().join("alice")).unwrap(),
        old
    );
}

/// The target of a link is written, and the link stays.
#[test]
fn a_symbolic_link_stays_a_link() {
    let workspace = Workspace::new();
    let (file, link) = (
        workspace.here().join("sub/file"),
        workspace.here().join("link"),
    );
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for line in [
        "policy rotate iothubowner --key primary --out link --force",
        "backup link --force",
    ] {
        std::fs::write(&file, "").unwrap();
        workspace.run(&format!("{line} --data DATA")).expect(0);
        assert!(link.symlink_metadata().unwrap().is_symlink(), "{line}");
        assert!(std::fs::metadata(&file).unwrap().len() > 0, "{line}");
        assert_eq!(mode(&file), 0o600, "{line}");
    }
    let settings = workspace.here().join("sub/hub.toml");
    std::fs::rename(workspace.data().join("hub.toml"), &settings).unwrap();
    std::os::unix::fs::symlink(&settings, workspace.data().join("hub.toml")).unwrap();
    workspace.run("init --san other --data DATA").expect(0);
    assert!(std::fs::read_to_string(settings).unwrap().contains("other"));
}
