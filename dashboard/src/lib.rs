//! The web page of doorfleet: the files of `web/`, embedded, and the headers of every answer.
//!
//! It knows no hub, socket or door: a server mounts the files below a path of its own, and the
//! page, whose addresses are all relative, asks that server.

#![warn(missing_docs)]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use sha2::{Digest as _, Sha256};

/// Path below `web/`, and content.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// The type of a file, by its name.
const TYPES: [(&str, &str); 6] = [
    (".css", "text/css; charset=utf-8"),
    (".html", "text/html; charset=utf-8"),
    (".js", "text/javascript; charset=utf-8"),
    (".json", "application/json"),
    (".png", "image/png"),
    (".svg", "image/svg+xml"),
];

/// Headers of every answer of the port. Names and twins come from strangers: if a defect put a
/// device's text into the page as HTML, it could neither run a script nor reach another server.
const SECURITY_HEADERS: [(&str, &str); 5] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'; \
         require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
];

/// A file of the page.
#[derive(Debug, PartialEq, Eq)]
pub struct File {
    /// The content.
    pub bytes: &'static [u8],
    /// The value of `Content-Type`.
    pub mime: &'static str,
    /// The value of `ETag`: the quoted SHA-256 of the content.
    pub etag: String,
}

/// The files by their paths below `web/`.
static PAGE: LazyLock<BTreeMap<&str, File>> = LazyLock::new(|| {
    let file = |&(path, bytes): &(&'static str, &'static [u8])| {
        let known = TYPES.iter().find(|(end, _)| path.ends_with(end));
        let digits = Sha256::digest(bytes);
        let digits: String = digits.iter().map(|byte| format!("{byte:02x}")).collect();
        let etag = format!("\"{digits}\"");
        let mime = known.map_or("application/octet-stream", |(_, mime)| mime);
        (path, File { bytes, mime, etag })
    };
    FILES.iter().map(file).collect()
});

/// The file at `path` below the page's base; the base itself is `index.html`.
#[must_use]
pub fn file(path: &str) -> Option<&'static File> {
    PAGE.get(match path {
        "" => "index.html",
        path => path,
    })
}

impl File {
    /// The answer to a GET or HEAD of the file: 304 without content if the caller has it. A server
    /// adds the headers of [`secure`].
    #[must_use]
    pub fn response(&'static self, request: &HeaderMap) -> Response<&'static [u8]> {
        let known = request
            .get(IF_NONE_MATCH)
            .and_then(|etags| etags.to_str().ok());
        let is_known = known.is_some_and(|etags| etags.contains(&self.etag));
        let mut response = Response::new(if is_known { &[][..] } else { self.bytes });
        if is_known {
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        }
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.mime));
        // Kept by the browser, and asked for each time.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(etag) = HeaderValue::from_str(&self.etag) {
            headers.insert(ETAG, etag);
        }
        response
    }
}

/// Sets the headers that every answer of the port has; what is not a file is not stored.
pub fn secure(headers: &mut HeaderMap) {
    for (name, value) in SECURITY_HEADERS {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    let store = headers.entry(CACHE_CONTROL);
    store.or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_type() {
        for (path, file) in PAGE.iter() {
            assert_ne!(
                file.mime, "application/octet-stream",
                "{path} is not in TYPES"
            );
        }
        assert_eq!(file(""), file("index.html"));
        assert_eq!(
            file("").map(|file| file.mime),
            Some("text/html; charset=utf-8")
        );
        for path in [
            "/index.html",
            "../Cargo.toml",
            "index.html/",
            "INDEX.HTML",
            "nothing",
        ] {
            assert_eq!(file(path), None, "{path}");
        }
    }

    #[test]
    fn a_file_that_the_caller_has_is_not_sent_again() {
        let page = file("").expect("index.html");
        assert_eq!(page.response(&HeaderMap::new()).body(), &page.bytes);
        for (etags, status) in [
            (page.etag.clone(), 304),
            (format!("\"other\", W/{}", page.etag), 304),
            ("\"other\"".to_owned(), 200),
        ] {
            let etags = HeaderValue::from_str(&etags).expect("a header");
            let response = page.response(&HeaderMap::from_iter([(IF_NONE_MATCH, etags)]));
            assert_eq!(response.status(), status);
            assert_eq!(response.body().is_empty(), status == 304);
        }
    }
}
