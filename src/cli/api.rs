//! Client of a running server's HTTP API.
//!
//! Every answer is bounded in time and size, since any service may listen on that port. The client
//! uses no proxy and follows no redirect: the token is for this server alone.

mod base;
mod trust;

use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::time::Duration;

use crate::files::{Guard, read_text};
use crate::limits::{API_ANSWER_BYTES_MAX, API_TOKEN_BYTES_MAX};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;
use ureq::http::{Response, StatusCode};
use ureq::{Body, RequestBuilder};

use super::args::ApiArgs;
use super::{Failure, color};
use base::{Base, DEFAULT_BASE};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// A server's API.
pub struct Api {
    base: String,
    token: Option<String>,
    agent: ureq::Agent,
}

/// Error of a request to a server.
#[derive(Debug)]
pub struct ApiError {
    /// URL of the server.
    base: String,
    kind: Kind,
    /// The server's own text, or the reason.
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// No server answers there.
    Unreachable,
    /// The server demands a token, and none was given.
    TokenWanted,
    /// The server rejects the token.
    TokenRefused,
    /// The server answers with an error.
    Status(StatusCode),
    /// The TLS handshake failed: an untrusted certificate, or a server without TLS.
    Untrusted,
    /// The service there is not Anthill.
    Foreign,
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { base, kind, text } = self;
        match kind {
            Kind::Unreachable => {
                write!(f, "no server at {base}: {text} (is it running? see --api)")
            }
            Kind::TokenWanted => write!(
                f,
                "{base} wants a token: give the file that holds it by --token-file or ANTHILL_TOKEN_FILE ({text})"
            ),
            Kind::TokenRefused => write!(
                f,
                "{base} refuses the token: see --token-file and ANTHILL_TOKEN_FILE ({text})"
            ),
            Kind::Status(status) => write!(f, "{base} answers {status}: {text}"),
            Kind::Untrusted => write!(f, "{base} is not trusted: {text} (see --ca)"),
            Kind::Foreign => write!(
                f,
                "{base} gives no answer of an Anthill server: {text} (see --api)"
            ),
        }
    }
}

impl ApiError {
    /// Returns whether the error may pass by itself: the server is unreachable, or busy.
    pub fn may_pass(&self) -> bool {
        self.is_unreachable()
            || matches!(self.kind, Kind::Status(status) if status.is_server_error())
    }

    /// Returns whether no server answers.
    pub fn is_unreachable(&self) -> bool {
        self.kind == Kind::Unreachable
    }

    /// Returns whether the server reports an unknown resource.
    pub fn is_unknown(&self) -> bool {
        self.kind == Kind::Status(StatusCode::NOT_FOUND)
    }

    /// Returns whether the server calls the request wrong.
    pub fn is_wrong(&self) -> bool {
        self.kind == Kind::Status(StatusCode::BAD_REQUEST)
    }

    /// The failure of a command whose target, or another word, the server calls wrong: its text
    /// alone, with status 2. Any other error is an ordinary failure.
    pub fn of_target(self) -> Failure {
        match self.is_wrong() {
            true => Failure::usage(self.text),
            false => self.into(),
        }
    }

    /// Returns whether the server reports a conflict that passes.
    pub fn is_not_now(&self) -> bool {
        self.kind == Kind::Status(StatusCode::SERVICE_UNAVAILABLE)
    }

    /// Returns whether the server reports an existing resource.
    pub fn is_conflict(&self) -> bool {
        self.kind == Kind::Status(StatusCode::CONFLICT)
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Failure::failed(error)
    }
}

impl Api {
    /// Client for the address in the flags, else in the environment, else the default. Sends
    /// nothing.
    ///
    /// # Errors
    /// An address or a token file that cannot be used, status 2.
    pub fn new(args: &ApiArgs) -> Result<Self, Failure> {
        let Base { text: base, is_tls } = match (&args.api, variable("ANTHILL_API")?) {
            (Some(url), _) => base::parse("--api", url)?,
            (None, Some(url)) => base::parse("ANTHILL_API", &url)?,
            (None, None) => base::parse("the default address", DEFAULT_BASE)?,
        };
        if args.ca.is_some() && !is_tls {
            return Err(Failure::usage(format!(
                "--ca is for an https:// address, and the server is asked at {base}: give --api https://HOST:PORT"
            )));
        }
        let token_file = std::env::var_os("ANTHILL_TOKEN_FILE").filter(|file| !file.is_empty());
        let token = match (&args.token_file, token_file) {
            (Some(file), _) => Some(read_token("--token-file", file.clone())?),
            (None, Some(file)) => Some(read_token("ANTHILL_TOKEN_FILE", file.into())?),
            (None, None) => None,
        };
        color::choose(args.color);
        let mut agent = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(REQUEST_TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("anthill/", env!("CARGO_PKG_VERSION")));
        if is_tls {
            agent = trust::over_tls(agent, args.ca.as_deref())?;
        }
        let agent = agent.build().new_agent();
        Ok(Self { base, token, agent })
    }

    /// Requests the document at `path`, which begins with a slash.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let request = self.agent.get(format!("{}{path}", self.base));
        let answer = self.with_token(request).call();
        self.answer(answer)
    }

    /// Requests the bytes at `path`, which begins with a slash.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn get_bytes(&self, path: &str) -> Result<Vec<u8>, ApiError> {
        let request = self.agent.get(format!("{}{path}", self.base));
        let answer = self.with_token(request).call();
        self.body(answer)
    }

    /// Requests the stream at `path`. Reading it has no time limit.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn stream(&self, path: &str) -> Result<impl BufRead + Send + use<>, ApiError> {
        let request = self.agent.get(format!("{}{path}", self.base));
        let request = request
            .config()
            .timeout_global(None)
            .timeout_recv_response(Some(REQUEST_TIMEOUT))
            .build();
        let answer = self.with_token(request).call();
        let response = answer.map_err(|error| self.broken(error))?;
        if !response.status().is_success() {
            return Err(self
                .whole(response)
                .map_or_else(|error| error, |_| self.foreign("its status is odd")));
        }
        Ok(BufReader::new(response.into_body().into_reader()))
    }

    /// Deletes the resource at `path`.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn delete(&self, path: &str) -> Result<(), ApiError> {
        let request = self.agent.delete(format!("{}{path}", self.base));
        let answer = self.with_token(request).call();
        self.body(answer).map(drop)
    }

    /// Posts `body` to `path` and returns the answer.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, ApiError> {
        let request = self.agent.post(format!("{}{path}", self.base));
        let request = request.header("Content-Type", "application/json");
        let answer = self.with_token(request).send(body.to_string().as_bytes());
        self.answer(answer)
    }

    /// Changes the resource at `path` by `body`, and returns the answer.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub fn patch<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, ApiError> {
        let request = self.agent.patch(format!("{}{path}", self.base));
        let request = request.header("Content-Type", "application/json");
        let answer = self.with_token(request).send(body.to_string().as_bytes());
        self.answer(answer)
    }

    fn with_token<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn answer<T: DeserializeOwned>(
        &self,
        answer: Result<Response<Body>, ureq::Error>,
    ) -> Result<T, ApiError> {
        let body = self.body(answer)?;
        serde_json::from_slice(&body).map_err(|error| self.misread(&error))
    }

    /// An error for an answer that is not JSON, or other JSON than Anthill's.
    pub fn misread(&self, error: &serde_json::Error) -> ApiError {
        let text = error.to_string();
        let missing = text
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split('`').next());
        self.foreign(match (error.classify(), missing) {
            (Category::Data, Some(name)) => format!("it has no member {name:?}"),
            (Category::Data, None) => "a member of it is of another kind".to_owned(),
            (Category::Io | Category::Syntax | Category::Eof, _) => "it is not JSON".to_owned(),
        })
    }

    /// Returns the body of a successful answer.
    fn body(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Vec<u8>, ApiError> {
        self.whole(answer.map_err(|error| self.broken(error))?)
    }

    fn whole(&self, mut response: Response<Body>) -> Result<Vec<u8>, ApiError> {
        let status = response.status();
        let body = response
            .body_mut()
            .with_config()
            .limit(API_ANSWER_BYTES_MAX)
            .read_to_vec()
            .map_err(|error| self.broken(error))?;
        if !status.is_success() {
            let kind = match (status, &self.token) {
                (StatusCode::UNAUTHORIZED, Some(_)) => Kind::TokenRefused,
                (StatusCode::UNAUTHORIZED, None) => Kind::TokenWanted,
                (status, _) => Kind::Status(status),
            };
            return Err(self.error(kind, error_text(&body)));
        }
        Ok(body)
    }

    fn error(&self, kind: Kind, text: impl ToString) -> ApiError {
        ApiError {
            base: self.base.clone(),
            kind,
            text: text.to_string(),
        }
    }

    /// An error for a service that does not behave like Anthill.
    pub fn foreign(&self, why: impl ToString) -> ApiError {
        self.error(Kind::Foreign, why)
    }

    fn broken(&self, error: ureq::Error) -> ApiError {
        let why = match error {
            // The TLS library wraps its errors like this.
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                return self.error(Kind::Untrusted, trust::in_words(error));
            }
            ureq::Error::Tls(why) => return self.error(Kind::Untrusted, why),
            ureq::Error::Io(error) => io_words(&error),
            ureq::Error::Timeout(_) => "no answer in time".to_owned(),
            ureq::Error::HostNotFound => "there is no host of that name".to_owned(),
            ureq::Error::ConnectionFailed => "the connection failed".to_owned(),
            other => return self.foreign(other),
        };
        self.error(Kind::Unreachable, why)
    }
}

/// Describes a network error without its number: by its kind if that has a text, else by the
/// system's text.
fn io_words(error: &io::Error) -> String {
    let kind = error.kind().to_string();
    if matches!(&*kind, "other error" | "uncategorized error") {
        let text = error.to_string();
        let number = error.raw_os_error().map(|n| format!(" (os error {n})"));
        let bare = number.and_then(|number| text.strip_suffix(&*number).map(str::to_owned));
        return bare.unwrap_or(text);
    }
    kind
}

/// Text of an error body, or the beginning of a foreign body.
fn error_text(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Said {
        error: String,
    }
    match serde_json::from_slice::<Said>(body) {
        Ok(said) => said.error,
        Err(_) if body.is_empty() => "no more than that".to_owned(),
        Err(_) => String::from_utf8_lossy(body).chars().take(100).collect(),
    }
}

/// An environment variable; an empty one counts as none.
fn variable(name: &str) -> Result<Option<String>, Failure> {
    match std::env::var_os(name).map(std::ffi::OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
        Some(Err(_)) => Err(Failure::usage(format!("{name} is not UTF-8"))),
    }
}

fn read_token(source: &str, file: PathBuf) -> Result<String, Failure> {
    let refused = |why: String| Failure::usage(format!("{source} is '{}': {why}", file.display()));
    let read = read_text(&file, API_TOKEN_BYTES_MAX, Guard::Shared);
    let text = read.map_err(|error| refused(format!("it {error}")))?.text;
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refused(
            "it must hold one token of visible ASCII characters".to_owned(),
        ));
    }
    Ok(token.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_errors_have_no_numbers() {
        let words = |number| io_words(&io::Error::from_raw_os_error(number));
        assert_eq!(words(libc::ECONNREFUSED), "connection refused");
        // The library has no kind for these.
        assert_eq!(words(libc::EMFILE), "Too many open files");
        assert_eq!(words(libc::EPROTO), "Protocol error");
        assert_eq!(
            io_words(&io::Error::other("a name of no host")),
            "a name of no host"
        );
    }

    #[test]
    fn a_token_is_one_visible_word_of_bounded_length() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        for (text, good) in [
            ("s3cret\n", true),
            ("", false),
            ("two words", false),
            ("one\ntwo", false),
            (&"x".repeat(5_000), false),
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(
                read_token("--token-file", file.clone()).is_ok(),
                good,
                "{text:.20}"
            );
        }
        assert!(read_token("--token-file", directory.path().join("none")).is_err());
    }

    #[test]
    fn http_errors_quote_the_server() {
        assert_eq!(error_text(br#"{"error":"no such page"}"#), "no such page");
        assert_eq!(error_text(b""), "no more than that");
        assert_eq!(error_text(&[b'x'; 5_000]).len(), 100);
    }
}

#[cfg(all(test, feature = "tls"))]
mod tls_tests;
