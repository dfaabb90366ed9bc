//! Who may use the server: a bearer token, and TLS with or without certificates of clients.
//!
//! Knows nothing of requests but their address and their authorization.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header;
use axum::middleware::Next;
use axum::response::Response;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

use crate::problem::{Cause, Problem};

/// As ALPN names HTTP/2.
pub const HTTP2: &[u8] = b"h2";
/// Before the token.
const BEARER: &[u8] = b"Bearer ";
/// Answered without a token: who watches over the process has none.
const OPEN_PATHS: [&str; 2] = ["/v2/health/", "/grpc.health.v1.Health/"];

/// How connections are encrypted. Files are in PEM.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// The server's certificate, then those that it was signed by.
    pub certificates: PathBuf,
    /// The key of the first certificate.
    pub key: PathBuf,
    /// Those who sign the certificates of clients; none: clients need no certificate.
    pub client_authorities: Option<PathBuf>,
}

/// Refuses connections that `options` do not let in.
pub fn acceptor(options: &TlsOptions) -> io::Result<TlsAcceptor> {
    let provider = Arc::new(default_provider());
    let config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let config = match &options.client_authorities {
        None => config.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| in_file(path, &error))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            config
                .with_client_cert_verifier(verifier.build().map_err(|error| in_file(path, &error))?)
        }
    };
    let key = PrivateKeyDer::from_pem_file(&options.key);
    let key = key.map_err(|error| in_file(&options.key, &error))?;
    let mut config = config
        .with_single_cert(certificates(&options.certificates)?, key)
        .map_err(|error| in_file(&options.certificates, &error))?;
    config.alpn_protocols = vec![HTTP2.to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(path);
    let found: Result<Vec<_>, pem::Error> = read.and_then(Iterator::collect);
    match found {
        Ok(found) if found.is_empty() => Err(in_file(path, &"has no certificate in PEM")),
        Ok(found) => Ok(found),
        Err(error) => Err(in_file(path, &error)),
    }
}

fn in_file(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{}: {error}", path.display()))
}

/// Refuses requests without the token, if there is one.
pub async fn check_token(
    State(token): State<Option<Arc<str>>>,
    request: Request,
    next: Next,
) -> Response {
    let Some(token) = token else { return next.run(request).await };
    let is_open = OPEN_PATHS.iter().any(|path| request.uri().path().starts_with(path));
    let given = request.headers().get(header::AUTHORIZATION);
    let given = given.and_then(|value| value.as_bytes().split_at_checked(BEARER.len()));
    let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(BEARER));
    if is_open || given.is_some_and(|(_, given)| is_equal(given, token.as_bytes())) {
        return next.run(request).await;
    }
    let text = "the request has no `authorization: Bearer TOKEN`, or another token";
    Problem::new(Cause::Unauthenticated, text).response_to(request.headers())
}

/// Takes as long for each wrong token of that length.
fn is_equal(given: &[u8], token: &[u8]) -> bool {
    let differences = given.iter().zip(token).fold(0, |all, (a, b)| all | (a ^ b));
    given.len() == token.len() && differences == 0
}
