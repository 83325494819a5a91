//! Output files: the format follows `-o` or the file name, and existing files are not
//! overwritten, unless that is their purpose.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::failure::Failure;
use crate::printer::Format;

/// The format that `-o` asks for, else that of the file's extension, else `default`.
pub(super) fn format(
    out: Option<&Path>,
    requested: Format,
    default: Format,
) -> Result<Format, Failure> {
    let extension = out.and_then(|path| path.extension()?.to_str());
    match (requested, extension.map(str::to_ascii_lowercase).as_deref()) {
        (Format::Table, Some("json")) => Ok(Format::Json),
        (Format::Table, Some("jsonl")) => Ok(Format::Jsonl),
        (Format::Table, Some("csv")) => Ok(Format::Csv),
        (Format::Table, None | Some("txt")) => Ok(default),
        (Format::Table, Some(other)) => Err(Failure::new(format!(
            "--out: unknown extension .{other}; expected .csv, .json or .jsonl, or -o \
             csv|json|jsonl"
        ))),
        (requested, _) => Ok(requested),
    }
}

/// Writes a new file; fails when it exists.
pub(super) fn create(path: &Path, text: &str) -> anyhow::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let mut file = file.with_context(|| format!("cannot create {}", path.display()))?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    written
        // Remove a partial file, best effort: the error to report is that of the write.
        .inspect_err(|_| drop(fs::remove_file(path)))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Writes or replaces a file: a reader sees the old or the new text, never a part.
pub(super) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.new", std::process::id()));
    let temporary = Path::new(&temporary);
    create(temporary, text)?;
    fs::rename(temporary, path)
        .inspect_err(|_| drop(fs::remove_file(temporary)))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_requested_one_else_that_of_the_file_name() {
        for (out, requested, expected) in [
            (None, Format::Table, Format::Csv),
            (None, Format::Json, Format::Json),
            (Some("a.JSON"), Format::Table, Format::Json),
            (Some("a.json"), Format::Csv, Format::Csv),
            (Some("a"), Format::Table, Format::Csv),
        ] {
            let out = out.map(Path::new);
            assert_eq!(format(out, requested, Format::Csv).unwrap(), expected);
        }
        assert!(format(Some(Path::new("a.xlsx")), Format::Table, Format::Csv).is_err());
    }
}
