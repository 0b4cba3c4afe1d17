//! Whom to believe: certificates for HTTPS and for mail, from one configuration.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use lettre::transport::smtp::client::{Certificate, CertificateStore, TlsParameters};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use serde::{Deserialize, Serialize};

/// Alertmanager's `tls_config`, as far as certificates of the far side go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// Accept any certificate: whoever sits on the way can read and change everything.
    pub insecure_skip_verify: bool,
    /// Authorities to believe instead of the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// The name expected in the certificate instead of the host's.
    pub server_name: Option<String>,
}

/// Above this a file of authorities is not one, in bytes.
const CA_BYTES_MAX: u64 = 4 * 1024 * 1024;

impl TlsConfig {
    /// For HTTPS, and for mail over implicit TLS.
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let config = if self.insecure_skip_verify {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(BelieveAll(provider)))
                .with_no_client_auth()
        } else {
            let roots = match &self.ca_file {
                Some(path) => Arc::new(roots(path)?),
                None => system_roots()?,
            };
            builder.with_root_certificates(roots).with_no_client_auth()
        };
        Ok(Arc::new(config))
    }

    /// For mail over STARTTLS.
    pub(crate) fn starttls(&self, host: &str) -> Result<TlsParameters, String> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let mut builder = TlsParameters::builder(name.to_owned());
        if self.insecure_skip_verify {
            builder = builder
                .certificate_store(CertificateStore::None)
                .dangerous_accept_invalid_hostnames(true)
                .dangerous_accept_invalid_certs(true);
        } else if let Some(path) = &self.ca_file {
            let authority = Certificate::from_pem(&pem(path)?)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            builder =
                builder.certificate_store(CertificateStore::None).add_root_certificate(authority);
        }
        builder.build().map_err(|error| error.to_string())
    }

    /// The name to expect, as TLS writes it.
    pub(crate) fn name(&self, host: &str) -> Result<ServerName<'static>, String> {
        let name = self.server_name.as_deref().unwrap_or(host).trim_matches(['[', ']']);
        ServerName::try_from(name.to_owned())
            .map_err(|_| format!("`{}` cannot stand in a certificate", name.escape_debug()))
    }
}

fn pem(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let said = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(said)?;
    file.take(CA_BYTES_MAX).read_to_end(&mut bytes).map_err(said)?;
    Ok(bytes)
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let bytes = pem(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    if roots.is_empty() {
        return Err(format!("{} holds no certificate in PEM form", path.display()));
    }
    Ok(roots)
}

/// Read once: it takes tens of milliseconds, and a restart after new authorities is common practice.
fn system_roots() -> Result<Arc<RootCertStore>, String> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        // Not remembered: the package may be installed while the monitor runs.
        return Err(
            "this system trusts no certificate authority (on Debian they come with the package \
             `ca-certificates`); install some or set `tls_config.ca_file`"
                .to_owned(),
        );
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}

#[derive(Debug)]
struct BelieveAll(Arc<CryptoProvider>);

impl ServerCertVerifier for BelieveAll {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
