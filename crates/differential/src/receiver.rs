//! The other end of Prometheus' remote write: everything that it scrapes and records arrives here as it is stored
//! there, stale markers included, which no query would tell.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::routing::post;
use promql::{Labels, Limits, Sample, SeriesRef, Store};
use prost::Message;

/// Longer than any run.
const RETENTION: Duration = Duration::from_secs(86_400);

/// The most bytes of a request, and of what is in it.
const BODY_MAX: usize = 64 << 20;

/// `prometheus.WriteRequest` of remote write 1.0, as far as it is needed.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub(crate) series: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    pub(crate) labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) samples: Vec<WrittenSample>,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Label {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct WrittenSample {
    #[prost(double, tag = "1")]
    pub(crate) value: f64,
    #[prost(int64, tag = "2")]
    pub(crate) timestamp: i64,
}

/// What has arrived.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) store: Store,
    references: HashMap<Labels, SeriesRef>,
    pub(crate) samples: usize,
    pub(crate) stale_markers: usize,
    /// What the store did not take: each is a sample that the comparison would lack.
    pub(crate) refused: Vec<String>,
    /// The times of the oldest and of the newest sample.
    pub(crate) bounds: Option<(i64, i64)>,
}

/// A recording that is still being written to.
pub(crate) type Shared = Arc<RwLock<Recording>>;

impl Recording {
    pub(crate) fn new() -> Self {
        let limits = Limits {
            max_series: 1_000_000,
            max_bytes: 4 << 30,
        };
        Self {
            store: Store::new(limits),
            references: HashMap::new(),
            samples: 0,
            stale_markers: 0,
            refused: Vec::new(),
            bounds: None,
        }
    }

    fn add(&mut self, series: &TimeSeries) {
        let pairs = series.labels.iter();
        let labels = Labels::new(pairs.map(|label| (&*label.name, &*label.value)));
        for written in &series.samples {
            let sample = Sample::new(written.timestamp, written.value);
            if let Err(error) = self.append(&labels, sample) {
                self.refused.push(format!("{labels}: {error}"));
                continue;
            }
            self.samples += 1;
            self.stale_markers += usize::from(sample.is_stale());
            let time = sample.timestamp;
            let (oldest, newest) = self.bounds.unwrap_or((time, time));
            self.bounds = Some((oldest.min(time), newest.max(time)));
        }
    }

    fn append(&mut self, labels: &Labels, sample: Sample) -> Result<(), promql::AppendError> {
        let reference = if let Some(known) = self.references.get(labels) {
            *known
        } else {
            let new = self.store.register(labels, RETENTION)?;
            self.references.insert(labels.clone(), new);
            new
        };
        self.store.append(reference, sample)
    }
}

/// Listens on a free port of this machine until the program ends, and tells the address.
pub(crate) fn listen(recording: Shared) -> Result<SocketAddr, String> {
    let said = |error: std::io::Error| format!("cannot listen on 127.0.0.1: {error}");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").map_err(said)?;
    listener.set_nonblocking(true).map_err(said)?;
    let address = listener.local_addr().map_err(said)?;
    let router = Router::new()
        .route("/write", post(write))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(recording);
    std::thread::spawn(move || serve(listener, router));
    Ok(address)
}

fn serve(listener: std::net::TcpListener, router: Router) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        axum::serve(listener, router).await
    })
}

async fn write(
    State(recording): State<Shared>,
    body: Bytes,
) -> Result<StatusCode, (StatusCode, String)> {
    let request = read(&body).map_err(|error| (StatusCode::BAD_REQUEST, error))?;
    let mut recording = recording
        .write()
        .map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    for series in &request.series {
        recording.add(series);
    }
    Ok(StatusCode::NO_CONTENT)
}

fn read(body: &[u8]) -> Result<WriteRequest, String> {
    let size = snap::raw::decompress_len(body).map_err(|error| error.to_string())?;
    if size > BODY_MAX {
        return Err(format!("{size} bytes; at most {BODY_MAX} are taken"));
    }
    let bytes = snap::raw::Decoder::new()
        .decompress_vec(body)
        .map_err(|error| error.to_string())?;
    WriteRequest::decode(&*bytes).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_written_bit_for_bit() {
        let stale = Sample::stale(2_000);
        let label = |name: &str, value: &str| Label {
            name: name.into(),
            value: value.into(),
        };
        let samples = [(1_000, 1.5), (2_000, stale.value)];
        let request = WriteRequest {
            series: vec![TimeSeries {
                labels: vec![label("__name__", "up"), label("job", "x")],
                samples: samples
                    .map(|(timestamp, value)| WrittenSample { value, timestamp })
                    .to_vec(),
            }],
        };
        let body = snap::raw::Encoder::new()
            .compress_vec(&request.encode_to_vec())
            .unwrap();
        let mut recording = Recording::new();
        recording.add(&read(&body).unwrap().series[0]);
        assert_eq!((recording.samples, recording.stale_markers), (2, 1));
        assert_eq!(recording.bounds, Some((1_000, 2_000)));
        let found = recording
            .store
            .select(&[promql::Matcher::equal("job", "x")]);
        assert!(found[0].last().unwrap().is_stale());
        assert!(read(b"not snappy").is_err());
    }
}
