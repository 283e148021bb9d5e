//! A place that events are pushed to: a small HTTP server that keeps what comes and answers as it is told.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::node::Node;

/// The longest delivery that is read.
const MAX_DELIVERY: usize = 1 << 20;

/// How a delivery is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// With `w:Ack`.
    Acknowledge,
    /// Not, until it is told otherwise.
    Hold,
    /// With the fault `w:DeliveryRefused`.
    Refuse,
    /// With HTTP 503.
    Fail,
}

/// A sink that listens.
pub(super) struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: AbortHandle,
}

struct Shared {
    deliveries: Mutex<Vec<Node>>,
    manner: Mutex<Manner>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink {
    /// Listens at a free port of an address.
    pub(super) async fn open(host: &str, manner: Manner) -> std::io::Result<Self> {
        let listener = TcpListener::bind((host, 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared { deliveries: Mutex::default(), manner: Mutex::new(manner) });
        let accepted = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&accepted);
                // A connection that breaks is the other side's to notice.
                tokio::spawn(async move { shared.serve(stream).await.ok() });
            }
        });
        Ok(Self { address, shared, task: task.abort_handle() })
    }

    /// Where it is, for `NotifyTo` and `EndTo`.
    pub(super) fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// From now on deliveries are answered so.
    pub(super) fn set(&self, manner: Manner) {
        *locked(&self.shared.manner) = manner;
    }

    /// What came so far.
    pub(super) fn deliveries(&self) -> Vec<Node> {
        locked(&self.shared.deliveries).clone()
    }

    /// Waits until so many deliveries came, or not much longer than `patience`.
    pub(super) async fn wait_for(&self, count: usize, patience: Duration) -> Vec<Node> {
        let begun = Instant::now();
        while self.deliveries().len() < count && begun.elapsed() < patience {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.deliveries()
    }
}

impl Shared {
    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut buffer: Vec<u8> = Vec::new();
        while let Some(body) = next_body(&mut stream, &mut buffer).await? {
            let text = String::from_utf8_lossy(&body).into_owned();
            let delivery = Node::parse(&text).unwrap_or_default();
            let id = delivery.text_at("Header/MessageID").to_owned();
            locked(&self.deliveries).push(delivery);
            let manner = loop {
                let manner = *locked(&self.manner);
                if manner != Manner::Hold {
                    break manner;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            stream.write_all(reply(manner, &id).as_bytes()).await?;
        }
        Ok(())
    }
}

/// The body of the next request; what was read beyond it stays in the buffer.
async fn next_body(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<Option<Vec<u8>>> {
    let mut chunk = [0; 8192];
    loop {
        if let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let length = content_length(buffer.get(..head).unwrap_or_default());
            let end = head + 4 + length;
            if buffer.len() >= end {
                let rest = buffer.split_off(end);
                let body = buffer.split_off(head + 4);
                *buffer = rest;
                return Ok(Some(body));
            }
        }
        if buffer.len() > MAX_DELIVERY {
            return Ok(None);
        }
        match stream.read(&mut chunk).await? {
            0 => return Ok(None),
            count => buffer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    let head = String::from_utf8_lossy(head).to_lowercase();
    let line = head.lines().find_map(|line| line.strip_prefix("content-length:"));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

fn reply(manner: Manner, relates_to: &str) -> String {
    let relates_to = super::message::escaped(relates_to);
    let header = |action: &str| {
        format!(
            "<s:Header><a:Action>http://schemas.dmtf.org/wbem/wsman/1/wsman/{action}</a:Action>\
             <a:To>http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:To>\
             <a:MessageID>uuid:{relates_to}-reply</a:MessageID><a:RelatesTo>{relates_to}</a:RelatesTo></s:Header>"
        )
    };
    let envelope = |inner: String| {
        format!(
            "<s:Envelope xmlns:s=\"http://www.w3.org/2003/05/soap-envelope\" \
             xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
             xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\">{inner}</s:Envelope>"
        )
    };
    let (status, body) = match manner {
        Manner::Acknowledge | Manner::Hold => ("200 OK", envelope(header("Ack") + "<s:Body/>")),
        Manner::Refuse => (
            "500 Internal Server Error",
            envelope(
                header("fault")
                    + "<s:Body><s:Fault><s:Code><s:Value>s:Receiver</s:Value><s:Subcode><s:Value>w:DeliveryRefused\
                       </s:Value></s:Subcode></s:Code><s:Reason><s:Text xml:lang=\"en-US\">No more of this.</s:Text>\
                       </s:Reason></s:Fault></s:Body>",
            ),
        ),
        Manner::Fail => ("503 Service Unavailable", String::new()),
    };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/soap+xml;charset=UTF-8\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
