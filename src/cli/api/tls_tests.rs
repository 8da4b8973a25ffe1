//! Requests over TLS, to a server of one answer.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use super::*;

/// An authority's PEM in `dir`, and what a server shows that it signed for 127.0.0.1.
fn signed_server(dir: &Path) -> (PathBuf, Arc<ServerConfig>) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let file = dir.join("ca.pem");
    fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let own_key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let own = own.signed_by(&own_key, &issuer).unwrap();
    let config = ServerConfig::builder_with_provider(crate::certificates::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![own.der().clone()],
            PrivateKeyDer::Pkcs8(own_key.serialize_der().into()),
        )
        .unwrap();
    (file, Arc::new(config))
}

/// Answers one request over TLS, and gives its head; what breaks the connection ends it.
fn serve_one(config: Arc<ServerConfig>) -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
            head.push(byte[0]);
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        String::from_utf8(head).unwrap()
    });
    (addr, serving)
}

fn api(url: String, ca: Option<PathBuf>, token_file: PathBuf) -> Result<Api, Failure> {
    Api::new(&ApiArgs {
        color: crate::cli::args::Color::Never,
        api: Some(url),
        token_file: Some(token_file),
        ca,
    })
}

#[test]
fn a_server_is_asked_over_tls() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, config) = signed_server(dir.path());
    let token = dir.path().join("token");
    fs::write(&token, "sesame").unwrap();
    let (addr, serving) = serve_one(config);
    let api = api(format!("https://{addr}"), Some(ca), token).unwrap();
    let answer: Value = api.get("/v1/hosts").unwrap();
    assert_eq!(answer, serde_json::json!({}));
    let head = serving.join().unwrap();
    assert!(head.starts_with("GET /v1/hosts HTTP/1.1\r\n"), "{head}");
    assert!(
        head.to_lowercase().contains("authorization: bearer sesame"),
        "{head}"
    );
}

#[test]
fn an_untrusted_server_gets_no_token() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, _) = signed_server(dir.path());
    let other = tempfile::tempdir().unwrap();
    let (_, config) = signed_server(other.path());
    let token = dir.path().join("token");
    fs::write(&token, "sesame").unwrap();
    let (addr, serving) = serve_one(config);
    let api = api(format!("https://{addr}"), Some(ca), token).unwrap();
    let error = api.get::<Value>("/v1/hosts").unwrap_err();
    assert!(error.kind == Kind::Untrusted, "{error:?}");
    assert!(
        error
            .to_string()
            .contains("invalid peer certificate: its issuer is not among the trusted authorities")
            || error
                .to_string()
                .contains("invalid peer certificate: its signature is wrong"),
        "{error}"
    );
    assert_eq!(serving.join().unwrap(), "");
}

#[test]
fn a_plain_server_asked_over_tls_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, _) = signed_server(dir.path());
    let token = dir.path().join("token");
    fs::write(&token, "sesame").unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let serving = thread::spawn(move || {
        let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        said
    });
    let api = api(format!("https://{addr}"), Some(ca), token).unwrap();
    let error = api.get::<Value>("/healthz").unwrap_err();
    assert!(error.kind == Kind::Untrusted, "{error:?}");
    let said = serving.join().unwrap();
    assert!(!said.windows(6).any(|six| six == b"sesame"));
}

#[test]
fn authorities_need_https_and_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    fs::write(&token, "sesame").unwrap();
    let (ca, _) = signed_server(dir.path());
    for (url, ca, word) in [
        ("http://127.0.0.1:1", ca, "https://"),
        ("https://127.0.0.1:1", token.clone(), "--ca"),
        ("https://127.0.0.1:1", dir.path().join("none"), "--ca"),
    ] {
        let failure = api(url.to_owned(), Some(ca), token.clone()).err().unwrap();
        let why = failure.why().unwrap();
        assert_eq!(failure.status(), 2);
        assert!(why.contains(word), "{why}");
    }
}
