//! Counts the connections that a client holds, by peer.
//!
//! The pool of the client library does not say how many connections it has. Without a count, a client that opens
//! one for each request looks like any other until the descriptors are gone.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::Service;

use crate::telemetry::catalog;
use crate::telemetry::catalog::Gauge;

/// A server as the labels `server_address` and `server_port` name it.
pub(super) type Peer = (String, String);

/// Whom a URL is for.
pub(super) fn peer(uri: &Uri) -> Peer {
    let port = uri.port_u16().unwrap_or(80);
    (uri.host().unwrap_or_default().to_owned(), port.to_string())
}

/// Opens connections that are counted while they live.
#[derive(Debug, Clone)]
pub(super) struct CountingConnector(pub(super) HttpConnector);

impl Service<Uri> for CountingConnector {
    type Response = OpenConnection;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<OpenConnection, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (host, port) = peer(&uri);
        let open = catalog::http_client_open_connections(host, port);
        let connecting = self.0.call(uri);
        Box::pin(async move {
            let stream = connecting.await?;
            open.increment(1.0);
            Ok(OpenConnection { stream, open })
        })
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct OpenConnection {
    stream: TokioIo<TcpStream>,
    open: Gauge,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}

impl Connection for OpenConnection {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl Read for OpenConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl Write for OpenConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }
}
