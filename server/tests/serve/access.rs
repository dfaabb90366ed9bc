//! Tokens, and connections that are encrypted.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::{Code, Request};
use twinstream::backend::{Geometry, Null};
use twinstream::engine::{Engine, EngineOptions};
use twinstream_server::{Server, ServerOptions, TlsOptions};

use super::fixture::*;
use super::protocol::*;

/// Somebody who signs, and what was signed, in files.
struct Signed {
    authority: Certificate,
    issuer: Issuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Signed {
    fn new(test: &str) -> Self {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
        fs::create_dir_all(&folder).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap();
        fs::write(folder.join("authority.pem"), authority.pem()).unwrap();
        let signed = Self { authority, issuer: Issuer::new(params, key), folder };
        let (certificate, key) = signed.sign();
        fs::write(signed.folder.join("server.pem"), certificate.pem()).unwrap();
        fs::write(signed.folder.join("server.key"), key.serialize_pem()).unwrap();
        signed
    }

    fn sign(&self) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    fn options(&self, needs_client: bool) -> ServerOptions {
        let mut options = ServerOptions::default();
        options.tls = Some(TlsOptions {
            certificates: self.folder.join("server.pem"),
            key: self.folder.join("server.key"),
            client_authorities: needs_client.then(|| self.folder.join("authority.pem")),
        });
        options
    }

    /// What a client is answered that shows a certificate or none; none where it is not let in.
    async fn ask(&self, running: &Running, has_certificate: bool) -> Option<String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match has_certificate {
            false => config.with_no_client_auth(),
            true => {
                let (certificate, key) = self.sign();
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                config.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
        };
        let stream = TcpStream::connect(running.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
        let asked = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(asked).await.ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.ok()?;
        Some(reply)
    }
}

#[tokio::test]
async fn connections_are_encrypted() {
    let signed = Signed::new("encrypted");
    let running = Running::null(signed.options(false));
    let reply = signed.ask(&running, false).await.unwrap();
    assert!(reply.ends_with(r#"{"live":true}"#), "{reply}");
    // Who speaks without TLS gets no answer.
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut reply = Vec::new();
    // It may end with an alert or at once.
    let _ = stream.read_to_end(&mut reply).await;
    assert!(!reply.starts_with(b"HTTP"));
}

#[tokio::test]
async fn clients_show_certificates_where_they_must() {
    let signed = Signed::new("clients");
    let running = Running::null(signed.options(true));
    assert!(signed.ask(&running, true).await.unwrap().contains("200 OK"));
    assert_eq!(signed.ask(&running, false).await, None);
    let stranger = Signed::new("strangers");
    assert_eq!(stranger.ask(&running, true).await, None);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let signed = Signed::new("files");
    let bind = |options: ServerOptions| {
        let geometry = Geometry { image_bytes: IMAGE_BYTES, result_len: 10, batch_len_max: 16 };
        let engine = Engine::start(Null::new(geometry), &EngineOptions::default()).unwrap();
        Server::bind(engine, no_network(), options).err().unwrap().to_string()
    };
    let mut options = signed.options(false);
    let tls = options.tls.as_mut().unwrap();
    std::mem::swap(&mut tls.key, &mut tls.certificates);
    assert!(bind(options).contains("server.pem"));
    let mut options = signed.options(true);
    let absent = signed.folder.join("absent.pem");
    options.tls.as_mut().unwrap().client_authorities = Some(absent);
    assert!(bind(options).contains("absent.pem"));
}

#[tokio::test]
async fn requests_show_the_token() {
    let mut options = ServerOptions::default();
    options.token = Some("open sesame".to_owned());
    let running = Running::null(options);
    let mut client = running.client().await;
    let with = |token: &str| {
        let mut asked = Request::new(request(&[0; IMAGE_BYTES]));
        asked.metadata_mut().insert("authorization", token.parse().unwrap());
        asked
    };
    for token in ["Bearer open sesame", "bearer open sesame"] {
        client.model_infer(with(token)).await.unwrap();
    }
    for token in ["Bearer open sesam", "Bearer open sesame!", "open sesame", "Bearer "] {
        let status = client.model_infer(with(token)).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    }
    let status = client.server_live(ServerLiveRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");

    let reply = running.get("/metrics");
    assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
    assert!(reply.error(401).contains("authorization: Bearer"));
    // Who watches over the process needs none.
    assert_eq!(running.get("/v2/health/ready").status, 200);
    let shown = "Authorization: Bearer open sesame\r\n";
    let body = json_request(&[0; IMAGE_BYTES]);
    let reply = running.post("/v2/models/resnet50/infer", shown, body.as_bytes());
    assert_eq!(reply.status, 200, "{}", reply.text());
}
