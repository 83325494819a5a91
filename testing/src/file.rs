//! Files with a mode, and free ports.

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// Writes a file that only its owner may read.
pub fn write_secret(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    write_with_mode(path, text, 0o600);
}

/// Writes a file with a mode, whatever the umask is.
pub fn write_with_mode(path: impl AsRef<Path>, text: impl AsRef<[u8]>, mode: u32) {
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Writes a script that programs run. Another process copies it into place: one that another test
/// forks meanwhile would inherit the open file, and until it executes its own program the script
/// could not be run (ETXTBSY).
pub fn write_program(path: impl AsRef<Path>, text: &str) {
    let path = path.as_ref();
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text).unwrap();
    let copied = Command::new("install")
        .args(["-m", "755"])
        .arg(&draft)
        .arg(path)
        .status();
    assert!(copied.unwrap().success());
    std::fs::remove_file(draft).unwrap();
}

/// An unused port of loopback that no other test of this process gets. It is below the ports that
/// the system assigns by itself, so that nothing takes it while its server restarts. It is looked
/// at without a listener: a process that another test forks at that moment would inherit it and
/// hold the port until it executes its program.
pub fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = first_assigned_port().saturating_sub(FIRST).max(1_000);
    loop {
        // Test programs that run at the same time begin far apart.
        let number = std::process::id().wrapping_mul(97) % count;
        let number = number + NEXT.fetch_add(1, Ordering::Relaxed);
        let port = u16::try_from(FIRST + number % count).unwrap();
        if TcpStream::connect(("127.0.0.1", port)).is_err() {
            return port;
        }
    }
}

/// The lowest port that the system assigns by itself: 32,768 on most machines, but a container or
/// an administrator may choose another.
fn first_assigned_port() -> u32 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(16_000)
}
