//! What is answered where.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde::Serialize;
use tokio::sync::oneshot;

use super::status::{JobsBody, StatusBody};
use super::{Ask, ServerState, Via, hosts, page};
use crate::candidate::{JobStanding, Public, Role};
use crate::config::{Config, handed};
use crate::log;
use crate::metrics::{self, Figures, Gauges, ScheduleGauges};
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

/// Said of a job that isn't there.
const NO_JOB: &str = "no such job: name one with ?job=NAME\n";

/// What may be done with what anybody may read.
const READS: HeaderValue = HeaderValue::from_static("GET, HEAD, OPTIONS");

type RouteAnswer = Response<Full<Bytes>>;

/// Answers a request. Its body, if it has one, is never read.
pub(super) async fn answer<B>(state: &ServerState, via: Via, request: &Request<B>) -> RouteAnswer {
    if let Via::Tcp(local) = via
        && !hosts::is_for_us(request, local, &state.shared().http_hosts)
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
            Method::GET => settings(state, request.uri()),
            _ => not_allowed(HeaderValue::from_static("GET")),
        };
    }
    if !PATHS.contains(&path) {
        return text(StatusCode::NOT_FOUND, "not found\n");
    }
    if request.method() == Method::OPTIONS {
        // What a load balancer asks by default, and means by it what GET does.
        let mut answer = read(state, request.uri()).await;
        answer.headers_mut().insert(ALLOW, READS);
        return answer;
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return not_allowed(READS);
    }
    read(state, request.uri()).await
}

/// What a request is about.
enum Asked {
    /// The job that it names, or the only one.
    One(JobStanding),
    /// All of several.
    All(Arc<[JobStanding]>),
    /// One that isn't there.
    Unknown,
}

impl Asked {
    /// What `uri` names with `?job=NAME`.
    fn of(state: &ServerState, uri: &Uri) -> Self {
        let all = state.standings();
        let mut pairs = uri.query().unwrap_or_default().split('&');
        let job = pairs.find_map(|pair| pair.strip_prefix("job="));
        match (job, &*all) {
            (None, [one]) if one.name().is_none() => Self::One(one.clone()),
            (None, _) => Self::All(all),
            (Some(job), _) => {
                let is_it = |it: &&JobStanding| it.name().is_some_and(|name| name.as_str() == job);
                let one = all.iter().find(is_it).cloned();
                one.map_or(Self::Unknown, Self::One)
            }
        }
    }

    /// Each that is asked for.
    fn each(&self) -> &[JobStanding] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::All(all) => all,
            Self::Unknown => &[],
        }
    }
}

/// What a job's own commands are told.
fn settings(state: &ServerState, uri: &Uri) -> RouteAnswer {
    match Asked::of(state, uri) {
        Asked::One(one) => json(StatusCode::OK, &handed::HandedSettings::of(&one.config)),
        Asked::All(_) | Asked::Unknown => text(StatusCode::NOT_FOUND, NO_JOB),
    }
}

/// What is read at the path of `uri`, which is one of [`PATHS`].
async fn read(state: &ServerState, uri: &Uri) -> RouteAnswer {
    let asked = Asked::of(state, uri);
    if matches!(asked, Asked::Unknown) {
        return text(StatusCode::NOT_FOUND, NO_JOB);
    }
    match uri.path() {
        "/livez" => livez(&state.standings()).await,
        "/readyz" => {
            let all = asked.each();
            let is_ready = !all.is_empty() && all.iter().all(|it| role(it).stands());
            yes_or_no(is_ready, &roles(&asked))
        }
        "/leader" => {
            let leads = asked
                .each()
                .iter()
                .any(|it| it.view.public.borrow().leads());
            yes_or_no(leads, &roles(&asked))
        }
        "/status" => match &asked {
            Asked::One(one) => {
                let mut body = StatusBody::of_all(state, std::slice::from_ref(one)).await;
                json(StatusCode::OK, &body.pop())
            }
            _ => json(StatusCode::OK, &JobsBody::of(state, asked.each()).await),
        },
        "/metrics" => {
            let all = asked.each().iter().map(|it| Figures {
                election: it.config.election.prefix.as_str(),
                metrics: &it.view.metrics,
                gauges: gauges(it),
            });
            let all: Vec<_> = all.collect();
            with_type(StatusCode::OK, PROMETHEUS, metrics::render(&all))
        }
        "/page.css" => with_type(StatusCode::OK, CSS, page::STYLE),
        "/page.js" => with_type(StatusCode::OK, SCRIPT, page::SCRIPT),
        _ => {
            let page = match &asked {
                Asked::One(one) => page::render(state, one).await,
                _ => page::render_jobs(state, asked.each()).await,
            };
            let mut answer = with_type(StatusCode::OK, HTML, page);
            let headers = answer.headers_mut();
            headers.insert(CONTENT_SECURITY_POLICY, OWN_ONLY);
            answer
        }
    }
}

fn role(standing: &JobStanding) -> Role {
    standing.view.public.borrow().role
}

/// The role of the one that is asked for, or a line with that of each.
fn roles(asked: &Asked) -> String {
    if let Asked::One(one) = asked {
        return role(one).word().to_owned();
    }
    let all = asked.each().iter();
    let lines = all.filter_map(|it| Some(format!("{}: {}", it.name()?, role(it).word())));
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether all loops of the daemon come round.
async fn livez(standings: &[JobStanding]) -> RouteAnswer {
    for (name, pulse) in standings.iter().flat_map(|it| &it.view.pulses) {
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

fn gauges(standing: &JobStanding) -> Gauges {
    let public = standing.view.public.borrow();
    let leader = public.leads();
    let scheduling = standing.config.scheduling.as_ref();
    Gauges {
        leader,
        ready: public.role.stands(),
        token: public.token.filter(|_| leader),
        lease_remaining: public
            .held_until
            .map_or(Duration::ZERO, crate::clock::Instant::remaining),
        job_up: public.job.up,
        healthy: public
            .health
            .as_ref()
            .map(|health| health.healthy == Some(true)),
        schedule: scheduling.map(|it| schedule(&standing.config, &it.policy, &public)),
    }
}

/// What this replica knows of the schedule, if it leads.
fn schedule(config: &Config, policy: &Policy, public: &Public) -> ScheduleGauges {
    let Some(slots) = &public.slots else {
        return ScheduleGauges::default();
    };
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
