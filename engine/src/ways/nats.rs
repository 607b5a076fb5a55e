//! Publishing to a subject, known to have arrived.
//!
//! A client takes what is published into its buffer, and would keep it over a lost connection. So a message of our own goes to ourselves behind it: what
//! comes back was with the server, and so was what went before it. Deliberately absent: a stream's word that it keeps the message, because who listens
//! need not have one.

use crate::posted::Posted;
use async_nats::client::PublishErrorKind;
use async_nats::connection::State;
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt;
use std::time::Duration;

/// A server answers within milliseconds, or is not there; people wait for it who clicked.
const HEARD_WITHIN: Duration = Duration::from_secs(5);

/// Publishes `body` under `id`, which a stream takes once within its window.
pub async fn publish(client: &Client, subject: &str, id: &str, body: Vec<u8>) -> Posted {
    // Published now, it would wait in the client beside every further attempt, and all of them would come.
    if client.connection_state() != State::Connected {
        return Posted::Again("there is no connection to NATS at the moment, and nothing was sent".to_owned());
    }
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", id);
    let here = client.new_inbox();
    let mut back = match client.subscribe(here.clone()).await {
        Ok(back) => back,
        Err(error) => return Posted::Again(error.to_string()),
    };
    if let Err(error) = client.publish_with_headers(subject.to_owned(), headers, body.into()).await {
        return match error.kind() {
            PublishErrorKind::Send => Posted::Again(error.to_string()),
            _ => Posted::Refused(error.to_string()),
        };
    }
    let heard = async {
        client.publish(here, Default::default()).await.ok()?;
        back.next().await
    };
    match tokio::time::timeout(HEARD_WITHIN, heard).await {
        Ok(Some(_)) => Posted::Sent("published".to_owned()),
        Ok(None) | Err(_) => Posted::Unknown(format!("the NATS server said nothing within {} s", HEARD_WITHIN.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_published_while_nats_is_away_waits_with_us_and_not_in_its_client() {
        let nowhere = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let client =
            async_nats::ConnectOptions::new().retry_on_initial_connect().connect(nowhere.to_string()).await.expect("it tries in the background");
        let posted = tokio::time::timeout(HEARD_WITHIN, publish(&client, "a.b", "1", b"{}".to_vec())).await;
        assert!(matches!(posted.expect("it answers at once"), Posted::Again(_)));
    }
}
