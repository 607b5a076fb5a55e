//! Questions to other people's HTTP endpoints: the client that judges are asked and incidents are posted with, and bounded answers to plain GETs.

use crate::error::Fault;
use hyper_rustls::ConfigBuilderExt;
use reqwest::header::HeaderMap;
use std::sync::Arc;

/// A page of a thousand of Slack's channels is about one megabyte.
const ANSWER_MAX: usize = 8 << 20;

/// An answer of any status.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    /// At most 8 MiB of it.
    pub body: Vec<u8>,
}

/// A client over TLS that trusts what the system trusts; `whom` it is to trust is for people. It follows no redirect: that would take what is sent
/// to where nobody configured.
///
/// # Errors
/// When the system has no certificates to trust.
pub fn client(whom: &str) -> Result<reqwest::Client, Fault> {
    over(tls(whom)?)
}

/// The same for one address. Without TLS, as on loopback, nobody is to be trusted, and a machine without certificates will do.
///
/// # Errors
/// When the address asks for TLS and the system has no certificates to trust.
pub fn client_for(address: &str, whom: &str) -> Result<reqwest::Client, Fault> {
    over(tls_for(address, whom)?)
}

/// TLS to one address, as [`client_for`] has it.
///
/// # Errors
/// As there.
pub fn tls_for(address: &str, whom: &str) -> Result<rustls::ClientConfig, Fault> {
    if !address.starts_with("http://") {
        return tls(whom);
    }
    let versions = versions().map_err(|error| no_roots(whom, &error.to_string()))?;
    Ok(versions.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}

fn tls(whom: &str) -> Result<rustls::ClientConfig, Fault> {
    let versions = versions().map_err(|error| no_roots(whom, &error.to_string()))?;
    Ok(versions.with_native_roots().map_err(|error| no_roots(whom, &error.to_string()))?.with_no_client_auth())
}

fn versions() -> Result<rustls::ConfigBuilder<rustls::ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider())).with_safe_default_protocol_versions()
}

fn no_roots(whom: &str, why: &str) -> Fault {
    Fault::new(format!("no certificates to trust {whom} by: {why}"), "install the package ca-certificates")
}

fn over(tls: rustls::ClientConfig) -> Result<reqwest::Client, Fault> {
    let http = reqwest::Client::builder().tls_backend_preconfigured(tls).redirect(reqwest::redirect::Policy::none()).build();
    http.map_err(|error| Fault::plain(format!("cannot make an HTTP client: {error}")))
}

/// What became of a connection, in a few words without the address, which may hold a secret.
pub(crate) fn broken(error: &reqwest::Error) -> String {
    let words = if error.is_connect() { "cannot connect" } else { "the connection broke" };
    let mut cause = std::error::Error::source(error);
    // The last cause is the system's own word, such as `Connection refused`.
    while let Some(deeper) = cause.and_then(std::error::Error::source) {
        cause = Some(deeper);
    }
    cause.map_or_else(|| words.to_owned(), |cause| format!("{words}: {cause}"))
}

/// Asks `url`. It does not end by itself where no answer comes.
///
/// # Errors
/// In a few words without the request's headers, which may hold secrets.
pub async fn get(client: &reqwest::Client, url: &str, headers: HeaderMap) -> Result<Answer, String> {
    answer(client.get(url).headers(headers)).await
}

/// What a request is answered. It does not end by itself where no answer comes.
///
/// # Errors
/// As of [`get`].
pub async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, String> {
    let mut response = request.send().await.map_err(|error| broken(&error))?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
        if body.len() + chunk.len() > ANSWER_MAX {
            return Err(format!("the answer has more than {ANSWER_MAX} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status, headers, body })
}
