//! The page of several jobs: a line for each, and where to see more of it.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::text::{Escaped, moment};
use crate::candidate::{Public, Role};
use crate::config::Config;
use crate::http::reader::OverviewRead;
use crate::status::{ElectionStatus, ScheduleStatus};
use crate::wall;

/// A job, and all that its line tells.
pub(super) struct JobRow {
    config: Arc<Config>,
    public: Public,
    read: OverviewRead,
}

impl JobRow {
    pub(super) const fn new(config: Arc<Config>, public: Public, read: OverviewRead) -> Self {
        Self {
            config,
            public,
            read,
        }
    }

    /// What is wrong with it, if anything is.
    fn trouble(&self) -> Option<String> {
        let status = match &self.read {
            Ok(overview) => &overview.status,
            Err(error) => return Some(format!("the store can't be read: {error}")),
        };
        let here = || self.public.trouble.as_deref().map(ToOwned::to_owned);
        status.trouble().or_else(here)
    }
}

/// Writes the jobs.
pub(super) fn write(out: &mut String, shared: &Config, rows: &[JobRow], now: &str) -> fmt::Result {
    writeln!(out, "<h1>Jobs below {}</h1>", Escaped(shared.root()))?;
    let leading = rows.iter().filter(|row| row.public.role == Role::Leading);
    let (leading, name) = (leading.count(), Escaped(&shared.candidate_name));
    writeln!(
        out,
        "<p class=\"who\"><b>{name}</b> leads {leading} of {}</p>",
        rows.len()
    )?;
    for row in rows {
        if let (Some(name), Some(trouble)) = (&row.config.job_name, row.trouble()) {
            let trouble = Escaped(&trouble);
            writeln!(out, "<p class=\"warn\"><b>{name}</b>: {trouble}.</p>")?;
        }
    }
    writeln!(
        out,
        "<div class=\"wide\"><table>\n<tr><th>job<th>leader<th>here\
         <th>next run (UTC)<th class=\"spare\">last success (UTC)"
    )?;
    for row in rows {
        line(out, row)?;
    }
    writeln!(out, "</table></div>")?;
    writeln!(out, "<p class=\"soft\">As of {} UTC.</p>", moment(now))
}

fn line(out: &mut String, row: &JobRow) -> fmt::Result {
    let Some(name) = &row.config.job_name else {
        return Ok(());
    };
    let status = row.read.as_ref().ok().map(|overview| {
        let status = overview.status.clone();
        status.with_schedule(row.config.schedule(), wall::now())
    });
    let status = status.as_ref();
    writeln!(
        out,
        "<tr><td class=\"name\"><a href=\"/?job={name}\">{name}</a><td class=\"name\">{}<td>{}\
         <td>{}<td class=\"spare\">{}",
        Escaped(&leader(status)),
        row.public.role.word(),
        slot(status, |schedule| schedule.next),
        slot(status, |schedule| schedule.last_success),
    )
}

fn leader(status: Option<&ElectionStatus>) -> String {
    match status {
        None => "–".to_owned(),
        Some(status) => match &status.leader {
            Some(leader) => leader.name.clone(),
            None if status.paused => "nobody, paused".to_owned(),
            None => "nobody".to_owned(),
        },
    }
}

fn slot(
    status: Option<&ElectionStatus>,
    of: impl Fn(&ScheduleStatus) -> Option<crate::schedule::Slot>,
) -> String {
    let slot = status.and_then(|status| of(status.schedule.as_ref()?));
    slot.map_or("–".to_owned(), |slot| moment(&slot.to_string()))
}
