//! What the counterpart of judges' endpoints reads: HTTP requests, one after another on a connection.

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

/// Head and body of the next request; `None` at the end of the connection.
pub async fn request(stream: &mut TcpStream, read: &mut Vec<u8>) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let head_end = loop {
        if let Some(at) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(read).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8_lossy(&read[..head_end]).into_owned();
    let length = header(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    while read.len() < head_end + length {
        if stream.read_buf(read).await? == 0 {
            return Ok(None);
        }
    }
    let body = read[head_end..head_end + length].to_vec();
    read.drain(..head_end + length);
    Ok(Some((head, body)))
}

/// The value of a header of `head`.
pub fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().skip(1).filter_map(|line| line.split_once(':')).find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
