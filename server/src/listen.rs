//! Connections: how many, how slow, and how they end.
//!
//! Invariant: after the signal to end everything that was read is answered before the process goes,
//! unless it takes longer than it may. Knows nothing of requests.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Version};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::Response;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};
use twinstream::engine::Engine;

use crate::access::{HTTP2, TlsOptions, acceptor, check_token};
use crate::app::{App, Served};
use crate::bodies::{Budget, count};
use crate::frames::through;
use crate::grpc::{GRPCInferenceServiceServer, Grpc};
use crate::http::{Http, router};
use crate::load::Load;
use crate::metrics::{Metrics, count_outcomes};
use crate::orca::{OpenRcaServiceServer, Reports, report};
use crate::problem::{Cause, Problem};
use crate::shared_memory::Regions;
use crate::trace_context::give_back;

/// Longest head of a request over HTTP/1.1, and longest list of headers over HTTP/2.
const HEAD_BYTES_MAX: usize = 1 << 15;
/// After the end: between two looks whether requests are left, and so many looks without any until
/// their answers count as sent. Connections that say nothing are then not waited for.
const DRAIN_PERIOD: Duration = Duration::from_millis(50);
const DRAIN_LOOKS: usize = 10;
/// Between two looks whether the engine still takes requests.
const HEALTH_PERIOD: Duration = Duration::from_millis(100);
/// After an accept that failed, as the process has no descriptor left, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// With which a connection over HTTP/2 begins, and between two looks at a part of it.
const HTTP2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const PREFACE_PAUSE: Duration = Duration::from_millis(5);
/// The stream of load reports.
const LOAD_REPORTS: &str = "/xds.service.orca.v3.OpenRcaService/StreamCoreMetrics";
/// Who watches one of these is not waited for at the end.
const WATCHED: [&str; 2] = ["/grpc.health.v1.Health/Watch", LOAD_REPORTS];
/// Requests at a time on one connection over HTTP/2.
const STREAM_LEN_MAX: u32 = 1024;

/// How it serves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Address and port for gRPC and HTTP; port 0 takes one that is free.
    pub listen: SocketAddr,
    /// Threads that read and write, and as many that decode images.
    pub threads: usize,
    /// Connections are encrypted; none: they are not.
    pub tls: Option<TlsOptions>,
    /// What clients show as `authorization: Bearer TOKEN`, but to ask for the server's health;
    /// none: they show nothing.
    pub token: Option<String>,
    /// Longest body of a request.
    pub body_bytes_max: usize,
    /// Bodies of all requests together, in bytes.
    pub bodies_bytes_max: usize,
    /// Connections at a time.
    pub connection_len_max: usize,
    /// From a request's head until it is answered; and what a client has for the head.
    pub request_timeout: Duration,
    /// What each request is to take at most, for the largest rate that metrics and load reports
    /// tell: the engine's own bound where it has one. None: ten times what an image alone takes.
    pub latency_bound: Option<Duration>,
    /// Each answer to an inference has a load report (ORCA) in its headers, for balancers that do
    /// not ask; else those whose request asks for it.
    pub load_reports: bool,
    /// Clients may register system shared memory, for images and results: whoever reaches the
    /// server then reaches all shared memory that this process may read and write.
    pub shared_memory: bool,
    /// How long it still takes requests after the signal to end, and says that it is not ready.
    pub linger: Duration,
    /// How long those that were read may take from then on.
    pub drain_timeout: Duration,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8000)),
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            tls: None,
            token: None,
            body_bytes_max: 64 << 20,
            bodies_bytes_max: 1 << 30,
            connection_len_max: 16_384,
            request_timeout: Duration::from_secs(30),
            latency_bound: None,
            load_reports: false,
            shared_memory: false,
            linger: Duration::ZERO,
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// A server that listens, and does not answer yet.
pub struct Server {
    runtime: Runtime,
    listener: TcpListener,
    app: Arc<App>,
    tls: Option<TlsAcceptor>,
    options: ServerOptions,
}

impl Server {
    /// Listens.
    ///
    /// # Errors
    /// When the address cannot be listened at, certificates or key cannot be used, or threads
    /// cannot be made.
    pub fn bind(engine: Engine, served: Served, options: ServerOptions) -> io::Result<Self> {
        let tls = options.tls.as_ref().map(acceptor).transpose()?;
        let listener = TcpListener::bind(options.listen).map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", options.listen))
        })?;
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads)
            // They decode images and do nothing else.
            .max_blocking_threads(options.threads)
            .thread_name("twinstream-serve")
            .enable_all()
            .build()?;
        let regions = Regions::new(options.shared_memory, options.body_bytes_max);
        let ServerOptions { threads, latency_bound, .. } = options;
        let app = Arc::new(App::new(engine, served, regions, threads, latency_bound));
        Ok(Self { runtime, listener, app, tls, options })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers until `end` is ready, then ends as [`ServerOptions`] say. True if everything that
    /// was read was answered.
    ///
    /// # Errors
    /// When the system takes the listener away.
    pub fn run(self, end: impl Future<Output = ()>) -> io::Result<bool> {
        let Self { runtime, listener, app, tls, options } = self;
        let are_answered = runtime.block_on(serve((listener, tls), &app, options, end))?;
        // Threads that still decode for nobody are left to themselves.
        runtime.shutdown_background();
        Ok(app.engine.drain(Duration::ZERO) && are_answered)
    }
}

/// Ready when the process is asked to end, by SIGTERM or SIGINT.
///
/// # Panics
/// When the process cannot handle signals.
pub async fn ended_by_signal() {
    let on = |kind| signal(kind).expect("a process handles signals");
    let (mut terminate, mut interrupt) = (on(SignalKind::terminate()), on(SignalKind::interrupt()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn serve(
    (listener, tls): (TcpListener, Option<TlsAcceptor>),
    app: &Arc<App>,
    options: ServerOptions,
    end: impl Future<Output = ()>,
) -> io::Result<bool> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let metrics = Arc::new(Metrics::default());
    let (health, health_service) = health_reporter();
    let grpc = Grpc { app: app.clone() };
    let grpc =
        GRPCInferenceServiceServer::new(grpc).max_decoding_message_size(options.body_bytes_max);
    let load = Arc::new(Load::new(options.latency_bound));
    let reports = Reports { load: load.clone(), are_always: options.load_reports };
    let http = Http {
        app: app.clone(),
        metrics: metrics.clone(),
        load: load.clone(),
        body_bytes_max: options.body_bytes_max,
    };
    let pages = router(http)
        .route_service("/inference.GRPCInferenceService/{method}", grpc)
        .route_service("/grpc.health.v1.Health/{method}", health_service)
        .route_service(LOAD_REPORTS, OpenRcaServiceServer::new(reports.clone()))
        .layer(from_fn_with_state(Arc::new(Budget::new(options.bodies_bytes_max)), count))
        .layer(from_fn_with_state(reports, report))
        .layer(from_fn_with_state(options.token.map(Arc::from), check_token))
        .layer(from_fn_with_state((app.clone(), metrics.clone(), options.request_timeout), in_time))
        .layer(from_fn_with_state(metrics.clone(), count_outcomes))
        .layer(from_fn(give_back));
    let connections = Connections {
        places: Arc::new(Semaphore::new(options.connection_len_max)),
        builder: builder(options.request_timeout),
        ended: GracefulShutdown::new(),
        pages,
        tls,
        metrics: metrics.clone(),
        head_timeout: options.request_timeout,
    };
    let ends = async {
        end.await;
        app.end();
        log::info!("ending: not ready from now on");
        sleep(options.linger).await;
    };
    tokio::select! {
        () = connections.accept(&listener) => unreachable!("accepts for ever"),
        () = tell_health(app, &health) => unreachable!("looks for ever"),
        () = load.watch(app, || metrics.ended()) => unreachable!("looks for ever"),
        () = ends => {}
    }
    drop(listener);
    set_health(&health, false).await;
    let drained = async {
        tokio::select! {
            () = connections.ended.shutdown() => {}
            () = answered(&metrics) => {}
        }
    };
    // What is not over by then shows below.
    let _ = timeout(options.drain_timeout, drained).await;
    Ok(metrics.requests_in_progress.load(Ordering::Relaxed) == 0)
}

/// Ready when no request has been in progress for a while.
async fn answered(metrics: &Metrics) {
    let mut look_len = 0;
    while look_len < DRAIN_LOOKS {
        sleep(DRAIN_PERIOD).await;
        let is_idle = metrics.requests_in_progress.load(Ordering::Relaxed) == 0;
        look_len = if is_idle { look_len + 1 } else { 0 };
    }
}

/// What new connections are given.
struct Connections {
    places: Arc<Semaphore>,
    builder: Builder<TokioExecutor>,
    ended: GracefulShutdown,
    pages: Router,
    tls: Option<TlsAcceptor>,
    metrics: Arc<Metrics>,
    head_timeout: Duration,
}

impl Connections {
    async fn accept(&self, listener: &tokio::net::TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.take(stream),
                Err(error) => {
                    log::warn!("a connection could not be accepted: {error}");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn take(&self, stream: TcpStream) {
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            self.metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
            return;
        };
        // Answers are short, and waited for.
        if let Err(error) = stream.set_nodelay(true) {
            log::debug!("a connection without TCP_NODELAY: {error}");
        }
        let service = TowerToHyperService::new(self.pages.clone());
        let (builder, watcher) = (self.builder.clone(), self.ended.watcher());
        let (tls, head_timeout) = (self.tls.clone(), self.head_timeout);
        let metrics = Arc::clone(&self.metrics);
        tokio::spawn(async move {
            let _place = place;
            metrics.connections.fetch_add(1, Ordering::Relaxed);
            // Which protocol it is shows in what comes first, for which there is no limit below.
            match timeout(head_timeout, begin(stream, tls)).await {
                Ok(Ok((stream, is_http2))) => {
                    let builder =
                        if is_http2 { builder.http2_only() } else { builder.http1_only() };
                    let connection = builder.serve_connection(TokioIo::new(stream), service);
                    if let Err(error) = watcher.watch(connection.into_owned()).await {
                        log::debug!("a connection ended: {error}");
                    }
                }
                Ok(Err(error)) => log::debug!("a connection did not begin: {error}"),
                Err(_) => log::debug!("a connection did not begin in time"),
            }
            metrics.connections.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// A connection, encrypted or not.
type Stream = Either<TcpStream, TlsStream<TcpStream>>;

/// A connection whose protocol is known: true for HTTP/2.
async fn begin(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<(Stream, bool)> {
    match tls {
        None => {
            let is_http2 = is_http2(&stream).await?;
            Ok((Either::Left(stream), is_http2))
        }
        Some(tls) => {
            let stream = tls.accept(stream).await?;
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP2);
            Ok((Either::Right(stream), is_http2))
        }
    }
}

/// Whether a connection begins as those over HTTP/2 do; waits until that shows.
async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut head = [0; HTTP2_PREFACE.len()];
    loop {
        let len = stream.peek(&mut head).await?;
        if len == 0 || head[..len] != HTTP2_PREFACE[..len] {
            return Ok(false);
        }
        if len == HTTP2_PREFACE.len() {
            return Ok(true);
        }
        // What was seen stays, so there is no waiting for more of it.
        sleep(PREFACE_PAUSE).await;
    }
}

fn builder(head_timeout: Duration) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(head_timeout)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .max_concurrent_streams(STREAM_LEN_MAX)
        .keep_alive_interval(head_timeout)
        .keep_alive_timeout(head_timeout);
    builder
}

/// Answers that a request took too long: its body came slowly, say.
async fn in_time(
    State((app, metrics, limit)): State<(Arc<App>, Arc<Metrics>, Duration)>,
    request: Request,
    next: Next,
) -> Response {
    let in_progress = metrics.begin();
    let is_http1 = request.version() < Version::HTTP_2;
    let is_watched = WATCHED.contains(&request.uri().path());
    let mut headers = HeaderMap::new();
    headers.extend(request.headers().get(CONTENT_TYPE).map(|kind| (CONTENT_TYPE, kind.clone())));
    let mut response = match timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => {
            let text = format!("the request took longer than {limit:?}");
            Problem::new(Cause::Deadline, text).response_to(&headers)
        }
    };
    if is_http1 && app.is_ending() {
        // Else the client might send the next request just as the connection ends.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if is_watched {
        return response;
    }
    // It is in progress until its last byte has left.
    response.map(|body| {
        through(body, move |frame| {
            let _until_it_is_dropped = &in_progress;
            Ok(frame)
        })
    })
}

/// Tells who watches by gRPC whether requests are taken, for ever.
async fn tell_health(app: &App, health: &HealthReporter) {
    let mut told = None;
    loop {
        let is_ready = app.is_ready();
        if told != Some(is_ready) {
            set_health(health, is_ready).await;
            told = Some(is_ready);
        }
        sleep(HEALTH_PERIOD).await;
    }
}

async fn set_health(health: &HealthReporter, is_ready: bool) {
    let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
    for service in ["", "inference.GRPCInferenceService"] {
        health.set_service_status(service, status).await;
    }
}
