//! What is answered where.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use tokio::sync::oneshot;

use super::status::StatusBody;
use super::{Ask, ServerState, Via, hosts, page};
use crate::candidate::{Public, Role};
use crate::config::handed;
use crate::log;
use crate::metrics::{Gauges, ScheduleGauges};
use crate::schedule::planner::Policy;
use crate::schedule::{Slot, jitter};

/// How long a loop of the daemon may take to come round before it is taken for stuck: shorter than
/// the whole second that a prober waits, on a machine that is busy.
const STUCK: Duration = Duration::from_millis(900);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const CSS: HeaderValue = HeaderValue::from_static("text/css; charset=utf-8");
const SCRIPT: HeaderValue = HeaderValue::from_static("text/javascript; charset=utf-8");
const PROMETHEUS: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// The page loads nothing but itself.
const OWN_ONLY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// What anybody may read.
const PATHS: [&str; 8] = [
    "/",
    "/livez",
    "/readyz",
    "/leader",
    "/status",
    "/metrics",
    "/page.css",
    "/page.js",
];

/// What may be done with what anybody may read.
const READS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

type RouteAnswer = Response<Full<Bytes>>;

/// Answers a request. Its body, if it has one, is never read.
pub(super) async fn answer<B>(state: &ServerState, via: Via, request: &Request<B>) -> RouteAnswer {
    if let Via::Tcp(local) = via
        && !hosts::is_for_us(request, local, &state.config().http_hosts)
    {
        return text(
            StatusCode::FORBIDDEN,
            "not a name of this host: see http.hosts\n",
        );
    }
    let path = request.uri().path();
    if path == "/reload" && via == Via::Control {
        return match *request.method() {
            Method::POST => reload(state).await,
            _ => not_allowed(HeaderValue::from_static("POST")),
        };
    }
    if path == handed::PATH && via == Via::Control {
        return match *request.method() {
            Method::GET => json(StatusCode::OK, &handed::HandedSettings::of(&state.config())),
            _ => not_allowed(HeaderValue::from_static("GET")),
        };
    }
    if !PATHS.contains(&path) {
        return text(StatusCode::NOT_FOUND, "not found\n");
    }
    if request.method() == Method::OPTIONS {
        // What a load balancer asks by default, and means by it what GET does.
        let mut answer = read(state, path).await;
        answer.headers_mut().insert(ALLOW, READS);
        return answer;
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return not_allowed(READS);
    }
    read(state, path).await
}

/// What is read at `path`, which is one of [`PATHS`].
async fn read(state: &ServerState, path: &str) -> RouteAnswer {
    match path {
        "/livez" => livez(state).await,
        "/readyz" => {
            let role = state.view.public.borrow().role;
            yes_or_no(is_ready(role), role.word())
        }
        "/leader" => {
            let public = state.view.public.borrow();
            yes_or_no(public.leads(), public.role.word())
        }
        "/status" => json(StatusCode::OK, &StatusBody::of(state).await),
        "/metrics" => with_type(
            StatusCode::OK,
            PROMETHEUS,
            state.view.metrics.render(&gauges(state)),
        ),
        "/page.css" => with_type(StatusCode::OK, CSS, page::STYLE),
        "/page.js" => with_type(StatusCode::OK, SCRIPT, page::SCRIPT),
        _ => {
            let mut answer = with_type(StatusCode::OK, HTML, page::render(state).await);
            let headers = answer.headers_mut();
            headers.insert(CONTENT_SECURITY_POLICY, OWN_ONLY);
            answer
        }
    }
}

/// Whether a candidate in this role contends, or leads.
fn is_ready(role: Role) -> bool {
    [Role::Campaigning, Role::Leading].contains(&role)
}

/// Whether all loops of the daemon come round.
async fn livez(state: &ServerState) -> RouteAnswer {
    for (name, pulse) in &state.view.pulses {
        if !pulse.beats(STUCK).await {
            let what = format!("the {name} is stuck\n");
            return text(StatusCode::SERVICE_UNAVAILABLE, what);
        }
    }
    text(StatusCode::OK, "ok\n")
}

async fn reload(state: &ServerState) -> RouteAnswer {
    let (tell, told) = oneshot::channel();
    // The daemon hears as long as it lives.
    drop(state.asks.send(Ask::Reload(tell)));
    match told.await {
        Ok(outcome) if outcome.reloaded => json(StatusCode::OK, &outcome),
        Ok(outcome) => json(StatusCode::UNPROCESSABLE_ENTITY, &outcome),
        Err(_) => text(StatusCode::SERVICE_UNAVAILABLE, "the daemon is stopping\n"),
    }
}

fn gauges(state: &ServerState) -> Gauges {
    let public = state.view.public.borrow();
    let leader = public.leads();
    Gauges {
        leader,
        ready: is_ready(public.role),
        token: public.token.filter(|_| leader),
        lease_remaining: public
            .held_until
            .map_or(Duration::ZERO, crate::clock::Instant::remaining),
        job_up: public.job.up,
        healthy: public
            .health
            .as_ref()
            .map(|health| health.healthy == Some(true)),
        schedule: state
            .config()
            .scheduling
            .as_ref()
            .map(|scheduling| schedule(state, &scheduling.policy, &public)),
    }
}

/// What this replica knows of the schedule, if it leads.
fn schedule(state: &ServerState, policy: &Policy, public: &Public) -> ScheduleGauges {
    let Some(slots) = &public.slots else {
        return ScheduleGauges::default();
    };
    let config = state.config();
    let election = config.election.prefix.as_str();
    let next = slots.next;
    ScheduleGauges {
        next: next.map(|slot| slot.time() + jitter(election, slot, policy.jitter)),
        last_success: slots.state.last_success.map(Slot::time),
        open: Some(slots.state.open.is_some()),
    }
}

fn yes_or_no(yes: bool, word: &str) -> RouteAnswer {
    let status = if yes {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    text(status, format!("{word}\n"))
}

fn not_allowed(methods: HeaderValue) -> RouteAnswer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
    answer.headers_mut().insert(ALLOW, methods);
    answer
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> RouteAnswer {
    with_type(status, TEXT, body)
}

fn json<T: Serialize>(status: StatusCode, body: &T) -> RouteAnswer {
    // Plain data of our own: nothing in it can fail.
    let body = log::json(body).unwrap_or_default() + "\n";
    with_type(status, JSON, body)
}

fn with_type(status: StatusCode, kind: HeaderValue, body: impl Into<Bytes>) -> RouteAnswer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
