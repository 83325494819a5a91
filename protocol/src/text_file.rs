//! Text files that people write, export or copy: connection strings, PEM, settings, tables, JSON.
//!
//! Editors and shells add a byte order mark, CRLF or quotes, which are taken off; other encodings
//! and shapes are named for what they are. Every program decodes with these functions each file
//! that an operator hands to it.

/// Why a file is not the expected text. Nothing of its content is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextFileError {
    /// UTF-16 with or without its mark; PowerShell's `>` writes it.
    #[error("UTF-16, expected UTF-8 (in PowerShell: `Set-Content -Encoding utf8`)")]
    Utf16,
    /// A certificate or key in its binary form.
    #[error("binary (DER), expected PEM: `openssl x509 -inform der` converts a certificate")]
    Der,
    /// Another encoding, or no text.
    #[error("line {line}: not UTF-8")]
    NotUtf8 {
        /// The first such line, from 1.
        line: usize,
    },
    /// A JSON document in place of PEM.
    #[error("JSON, expected PEM, which begins with `-----BEGIN`")]
    Json,
    /// PEM whose line ends were written as `\n`, as in JSON or an environment variable.
    #[error("PEM in one line with `\\n` in it, expected line ends")]
    EscapedLines,
}

/// Decodes a text file: UTF-8 without its mark, with LF as line ends.
///
/// # Errors
/// When it has another encoding.
pub fn decode(bytes: Vec<u8>) -> Result<String, TextFileError> {
    match bytes.as_slice() {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, 1..=255, ..] | [1..=255, 0, ..] => {
            return Err(TextFileError::Utf16);
        }
        // A sequence with a long length.
        [0x30, 0x81..=0x84, ..] => return Err(TextFileError::Der),
        _ => {}
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        TextFileError::NotUtf8 { line }
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Ok(text.replace("\r\n", "\n"))
}

/// Decodes a file that holds a single value, such as a connection string: without the white space
/// and the quotes around the whole.
///
/// # Errors
/// As [`decode`].
pub fn decode_value(bytes: Vec<u8>) -> Result<String, TextFileError> {
    Ok(unquoted(&decode(bytes)?).to_owned())
}

/// Decodes a file with certificates or a key in PEM.
///
/// # Errors
/// As [`decode`], and when it is recognised as another form.
pub fn decode_pem(bytes: Vec<u8>) -> Result<String, TextFileError> {
    // A comment beside the blocks may have any encoding.
    let lossy = String::from_utf8_lossy(&bytes).into_owned();
    let text = match decode(bytes) {
        Err(TextFileError::NotUtf8 { .. }) if lossy.contains("-----BEGIN") => {
            lossy.replace("\r\n", "\n")
        }
        decoded => decoded?,
    };
    let pem = unquoted(&text);
    if pem.starts_with(['{', '[']) {
        return Err(TextFileError::Json);
    }
    if pem.starts_with("-----BEGIN") && pem.contains("-----\\n") {
        return Err(TextFileError::EscapedLines);
    }
    Ok(pem.to_owned() + "\n")
}

/// Takes off white space, and a pair of quotes around the whole.
fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let quotes = [('"', '"'), ('\'', '\''), ('\u{201c}', '\u{201d}')];
    let inner = |(open, close)| text.strip_prefix(open)?.strip_suffix(close);
    quotes.into_iter().find_map(inner).unwrap_or(text).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, mark: bool, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        let mark = mark.then_some('\u{feff}' as u16);
        mark.into_iter()
            .chain(text.encode_utf16())
            .flat_map(bytes)
            .collect()
    }

    /// What a file is, its bytes, and the value or the error.
    #[test]
    fn a_file_of_a_person_is_decoded_or_named_for_what_it_is() {
        let value = "HostName=hub;DeviceId=d";
        let bytes = |text: &str| text.as_bytes().to_vec();
        let fine = Ok(value.to_owned());
        for (what, file, expected) in [
            ("plain", bytes(value), fine.clone()),
            ("line end", bytes(&format!("{value}\n")), fine.clone()),
            ("CRLF", bytes(&format!("{value}\r\n")), fine.clone()),
            ("mark", bytes(&format!("\u{feff}{value}\n")), fine.clone()),
            ("quotes", bytes(&format!("\"{value}\"\r\n")), fine.clone()),
            ("apostrophes", bytes(&format!("'{value}'")), fine.clone()),
            ("typeset", bytes(&format!("\u{201c}{value}\u{201d}")), fine),
            ("one quote", bytes("\"x"), Ok("\"x".to_owned())),
            ("empty", Vec::new(), Ok(String::new())),
            (
                "UTF-16LE",
                utf16(value, true, u16::to_le_bytes),
                Err(TextFileError::Utf16),
            ),
            (
                "UTF-16BE",
                utf16(value, true, u16::to_be_bytes),
                Err(TextFileError::Utf16),
            ),
            (
                "no mark",
                utf16(value, false, u16::to_le_bytes),
                Err(TextFileError::Utf16),
            ),
            ("DER", vec![0x30, 0x82, 1, 10], Err(TextFileError::Der)),
            (
                "Latin-1",
                b"a\nb\nT\xfcr\n".to_vec(),
                Err(TextFileError::NotUtf8 { line: 3 }),
            ),
        ] {
            assert_eq!(decode_value(file), expected, "{what}");
        }
    }

    #[test]
    fn pem_in_another_form_is_named() {
        let pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        for (text, expected) in [
            (pem.to_owned(), Ok(pem.to_owned())),
            (
                format!("\u{feff}{pem}").replace('\n', "\r\n"),
                Ok(pem.to_owned()),
            ),
            (format!("\"{pem}\""), Ok(pem.to_owned())),
            (format!("comment\n{pem}"), Ok(format!("comment\n{pem}"))),
            (pem.replace('\n', "\\n"), Err(TextFileError::EscapedLines)),
            (
                "{\"certificate\": \"AA==\"}".to_owned(),
                Err(TextFileError::Json),
            ),
        ] {
            assert_eq!(decode_pem(text.clone().into_bytes()), expected, "{text}");
        }
        // Comments beside the blocks may have any encoding.
        let latin = [b"# T\xfcr\r\n", pem.as_bytes()].concat();
        assert_eq!(decode_pem(latin), Ok(format!("# T\u{fffd}r\n{pem}")));
        let not_utf8 = Err(TextFileError::NotUtf8 { line: 1 });
        assert_eq!(decode_pem(b"T\xfcr\n".to_vec()), not_utf8);
    }
}
