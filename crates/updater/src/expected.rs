//! What a client says must hold, for its upload or rollback to happen: the digest of the file, the version that is live.

use actix_web::http::header::{HeaderMap, IF_MATCH};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use service::Problem;
use store::{Entry, VersionId};

/// A SHA-256, as hexadecimal digits in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sha256(String);

impl Sha256 {
    /// Reads `?sha256=`.
    pub(crate) fn from_query(digits: &str) -> Result<Self, Problem> {
        if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(Self(digits.to_ascii_lowercase()));
        }
        Err(Problem::bad_request("`sha256` takes the SHA-256 of the file as 64 hexadecimal digits"))
    }

    /// Reads the header Content-Digest (RFC 9530), of which other algorithms than SHA-256 are passed over.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Vec<Self>, Problem> {
        let mut found = Vec::new();
        for value in headers.get_all("content-digest") {
            let value = value.to_str().map_err(|_| malformed_digest())?;
            let digests = value.split(',').filter_map(|digest| digest.split_once('='));
            let digests = digests.filter(|(algorithm, _)| algorithm.trim().eq_ignore_ascii_case("sha-256"));
            for (_, digest) in digests {
                found.push(Self::from_base64(digest.trim()).ok_or_else(malformed_digest)?);
            }
        }
        Ok(found)
    }

    fn from_base64(digest: &str) -> Option<Self> {
        let base64 = digest.strip_prefix(':')?.strip_suffix(':')?;
        let bytes = BASE64_STANDARD.decode(base64).ok().filter(|bytes| bytes.len() == 32)?;
        Some(Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

fn malformed_digest() -> Problem {
    Problem::bad_request("the header Content-Digest takes a SHA-256 as `sha-256=:BASE64:`")
}

/// The header If-Match: which versions may be live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// Any that is.
    Any,
    /// Those with one of these tags.
    Tags(Vec<String>),
}

impl IfMatch {
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Option<Self>, Problem> {
        let mut tags = Vec::new();
        for value in headers.get_all(IF_MATCH) {
            let value = value.to_str().unwrap_or_default();
            for tag in value.split(',').map(str::trim) {
                if tag == "*" {
                    return Ok(Some(Self::Any));
                }
                let plain = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
                let plain = plain.filter(|plain| !plain.contains('"'));
                let plain = plain.ok_or_else(|| {
                    Problem::bad_request(format!("If-Match takes `*` or etags in double quotes, not {tag}"))
                })?;
                tags.push(plain.to_owned());
            }
        }
        Ok((!tags.is_empty()).then_some(Self::Tags(tags)))
    }

    /// Whether what is live is what the client expects.
    pub(crate) fn allows(&self, dataset: &str, live: Option<&Entry>) -> bool {
        match (self, live) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::Tags(tags), Some(live)) => {
                let live = VersionId { number: live.version, content: live.content_id() };
                tags.contains(&live.tag(dataset))
            }
        }
    }
}

/// The answer where another version is live than the client expects.
pub(crate) fn live_changed(dataset: &str, live: Option<u32>) -> Problem {
    let text = match live {
        Some(live) => format!("version {live} of `{dataset}` is live, which is not one that If-Match names"),
        None => format!("`{dataset}` has no live version, and If-Match names one"),
    };
    Problem::precondition_failed(format!("{text}: nothing was published")).with("live", live)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        headers
    }

    #[test]
    fn a_content_digest_is_found_among_others() {
        let read = |value| Sha256::from_headers(&headers("content-digest", value));
        let value = "sha-512=:AAAA:, sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(read(value).unwrap(), [Sha256(empty.to_owned())]);
        assert_eq!(read("sha-512=:AAAA:").unwrap(), []);
        let two = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:, SHA-256=:w6FNQKVCo4SG/bhnx2lVi6COxeLqjGToxin69l9cUrQ=:";
        assert_eq!(read(two).unwrap().len(), 2);
        assert!(read("sha-256=:\u{e4}:").is_err());
        for value in ["sha-256=:AAAA:", "sha-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "sha-256=::"]
        {
            assert!(read(value).is_err(), "{value}");
        }
    }

    #[test]
    fn etags_are_read_with_their_quotes() {
        let read = |value| IfMatch::from_headers(&headers("if-match", value));
        let tags = |tags: &[&str]| Some(IfMatch::Tags(tags.iter().map(ToString::to_string).collect()));
        assert_eq!(read("\"a\", \"b\"").unwrap(), tags(&["a", "b"]));
        assert_eq!(read("*").unwrap(), Some(IfMatch::Any));
        for value in ["a", "W/\"a\"", "\"a", "\"a\" \"b\"", ""] {
            assert!(read(value).is_err(), "{value}");
        }
    }
}
