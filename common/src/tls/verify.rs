//! Who is at the other end of a handshake, and what its failure means.

use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::{Role, ServerTls, certificates};

/// Verifies clients; with a role, takes no other.
#[derive(Debug)]
pub(super) struct OfRole {
    pub inner: Arc<dyn ClientCertVerifier>,
    pub role: Option<Role>,
}

impl ClientCertVerifier for OfRole {
    fn offer_client_auth(&self) -> bool {
        self.inner.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.inner.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.inner.verify_client_cert(end_entity, intermediates, now)?;
        if self.role.is_some_and(|role| Role::of(end_entity) != Some(role)) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Who is at the other end of a handshake proves to hold the key of the certificate: the same for all
/// verifiers of servers.
macro_rules! signatures_by_provider {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

/// Verifies servers by their role.
#[derive(Debug)]
pub(super) struct ServerOfRole {
    pub roots: Arc<RootCertStore>,
    pub role: Role,
    pub provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ServerOfRole {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        match Role::of(end_entity) == Some(self.role) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    signatures_by_provider!();
}

/// Takes the certificate that a server of this process has now.
#[derive(Debug)]
pub(super) struct ThisServer {
    pub server: Arc<ServerTls>,
    pub provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ThisServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match certificates(&self.server.files.cert).is_ok_and(|own| own.first() == Some(end_entity)) {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    signatures_by_provider!();
}

/// What a TLS error means to whoever set this up.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(problem) => match problem {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "the other side's certificate has expired".into()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "the other side's certificate is not valid yet".into()
            }
            CertificateError::UnknownIssuer => "the other side's certificate is from another CA".into(),
            CertificateError::ApplicationVerificationFailure => {
                "the other side's certificate does not name the role that is needed here".into()
            }
            other => format!("the other side's certificate is refused: {other}"),
        },
        Error::NoCertificatesPresented => "the other side shows no certificate".into(),
        Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateExpired => {
                "the other side says that the certificate shown to it has expired".into()
            }
            AlertDescription::UnknownCA => {
                "the other side says that the certificate shown to it is from another CA".into()
            }
            AlertDescription::CertificateRequired => {
                "the other side asks for a certificate; say `--tls-cert` and `--tls-key`".into()
            }
            AlertDescription::AccessDenied => {
                "the other side says that the certificate shown to it does not name the role that is needed"
                    .into()
            }
            alert => format!("the other side refuses the connection: {alert:?}"),
        },
        Error::InvalidMessage(_) => "the other side does not speak TLS".into(),
        Error::InconsistentKeys(_) => "the key is not that of the certificate".into(),
        other => other.to_string(),
    }
}
