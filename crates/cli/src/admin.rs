//! Talking to a running proxy through its admin interface.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// How long the proxy may take to answer: it may save a state first, and disks may be slow.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Bytes of an answer that are read: an explanation with as many endpoints as a cluster may have is some 20 MiB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Sends one request and returns the body of the answer.
pub(crate) async fn exchange(admin: &str, method: &str, path: &str) -> anyhow::Result<String> {
    let unreachable = || {
        format!(
            "cannot reach the proxy's admin interface at {admin}; is the proxy running, and is this what `admin` in its \
             configuration says? Give another address with --admin, for example --admin 127.0.0.1:9901 or \
             --admin unix:/run/evenkeel.sock"
        )
    };
    let talk = async {
        match admin.strip_prefix("unix:") {
            Some(socket) => {
                let stream = UnixStream::connect(socket).await.with_context(unreachable)?;
                request(stream, method, path).await
            }
            None => {
                let address = admin.trim_start_matches("http://").trim_end_matches('/');
                let stream = TcpStream::connect(address).await.with_context(unreachable)?;
                request(stream, method, path).await
            }
        }
    };
    let answered = timeout(ANSWER_MAX, talk).await;
    let (status, text) =
        answered.with_context(|| format!("{admin} did not answer within {ANSWER_MAX:?}"))??;
    match status {
        200 => Ok(text),
        404 if text.starts_with("no such path") => {
            let name = path.split('?').next().unwrap_or(path);
            bail!("{admin} knows no {name}: is that the admin interface of this version's proxy?")
        }
        _ => bail!("{}", text.trim_end()),
    }
}

async fn request(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    method: &str,
    path: &str,
) -> anyhow::Result<(u16, String)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = hyper::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "localhost")
        .header("connection", "close")
        .body(String::new())?;
    let response = sender
        .send_request(request)
        .await
        .context("the answer is no HTTP: is that the proxy's admin interface?")?;
    let status = response.status().as_u16();
    let mut body = pin!(response.into_body());
    let mut text = Vec::new();
    while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
        if let Ok(data) = frame?.into_data() {
            text.extend_from_slice(&data);
        }
        if text.len() > ANSWER_BYTES_MAX {
            bail!("the answer is too long: is that the proxy's admin interface?");
        }
    }
    connection.abort();
    Ok((status, String::from_utf8(text).context("the answer is no text")?))
}
