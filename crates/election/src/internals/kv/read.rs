//! Reads: repeated on another member until one answers.

use etcd_client::{GetOptions, GetResponse, SortOrder, SortTarget};

use super::{Error, Keys, Span};
use crate::etcd;
use crate::etcd::patience::Failure;
use crate::etcd::watch::Watch;
use crate::revision::Revision;

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    /// Which keys.
    pub span: Span,
    /// As of which revision; zero for now.
    pub revision: Revision,
    /// How many at most; 0 for all.
    pub limit: i64,
    /// What to tell of each.
    pub detail: Detail,
    /// By what to sort them, and in which direction; as etcdctl, by key and upwards where nothing is
    /// said.
    pub sort: (Option<SortBy>, Option<Direction>),
    /// Only those that were made at one of these revisions.
    pub created: Between,
    /// Only those that were written last at one of these revisions.
    pub written: Between,
}

/// What to tell of each key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// The key and its value.
    #[default]
    Values,
    /// The key.
    Keys,
    /// Only how many there are.
    Count,
}

/// By what keys are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// When they were made.
    Create,
    /// Themselves.
    Key,
    /// When they were written last.
    Modify,
    /// Their values.
    Value,
    /// How often they were written.
    Version,
}

/// In which direction keys are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The smallest first.
    Ascend,
    /// The largest first.
    Descend,
}

/// A span of revisions, both ends in it; zero is no end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Between {
    /// Not below.
    pub min: Revision,
    /// Not above.
    pub max: Revision,
}

impl Get {
    /// All of these keys, as they are now.
    pub fn all(span: Span) -> Self {
        Self {
            span,
            revision: Revision::default(),
            limit: 0,
            detail: Detail::default(),
            sort: (None, None),
            created: Between::default(),
            written: Between::default(),
        }
    }

    pub(super) fn options(&self) -> GetOptions {
        let target = match self.sort.0 {
            Some(SortBy::Create) => SortTarget::Create,
            Some(SortBy::Modify) => SortTarget::Mod,
            Some(SortBy::Value) => SortTarget::Value,
            Some(SortBy::Version) => SortTarget::Version,
            Some(SortBy::Key) | None => SortTarget::Key,
        };
        let order = match self.sort.1 {
            Some(Direction::Ascend) => SortOrder::Ascend,
            Some(Direction::Descend) => SortOrder::Descend,
            None => SortOrder::None,
        };
        let options = (self.span.of_get())
            .with_revision(self.revision.get())
            .with_limit(self.limit)
            .with_sort(target, order)
            .with_min_create_revision(self.created.min.get())
            .with_max_create_revision(self.created.max.get())
            .with_min_mod_revision(self.written.min.get())
            .with_max_mod_revision(self.written.max.get());
        match self.detail {
            Detail::Values => options,
            Detail::Keys => options.with_keys_only(),
            Detail::Count => options.with_count_only(),
        }
    }
}

impl Keys {
    /// Reads keys, linearizably.
    ///
    /// # Errors
    /// As [`Error`] lists them.
    pub async fn get(&self, get: &Get) -> Result<GetResponse, Error> {
        match self.read(&get.span, &get.options()).await {
            Err(Failure::Store(etcd::Error::Compacted { .. })) => {
                Err(self.compacted(&get.span, get.revision).await)
            }
            answer => Ok(answer?),
        }
    }

    pub(super) async fn read(
        &self,
        span: &Span,
        options: &GetOptions,
    ) -> Result<GetResponse, Failure> {
        // By hand: of what `Patience::ask` awaits the compiler can't see that any thread may run it.
        let mut attempts = self.patience.attempts();
        loop {
            let limit = self.patience.attempt();
            let read = self.store.get(limit, span.start(), Some(options.clone()));
            match read.await {
                Ok((answer, _)) => return Ok(answer),
                Err(error) => attempts.weigh(error).await?,
            }
        }
    }

    /// What to say of a read that came too late for this revision. It isn't told which is the oldest
    /// that can be read; a watch is.
    pub(super) async fn compacted(&self, span: &Span, asked: Revision) -> Error {
        let look = async |limit| {
            let watched = [(
                span.start(),
                span.of_watch().with_start_revision(asked.get()),
            )];
            let watch = Watch::open_with(&self.store, limit, watched).await?;
            let mut watch = watch.through_proxy();
            Ok(Revision::new(watch.message().await?.compact_revision()))
        };
        match self.patience.ask(look).await {
            Ok(oldest) => Error::Compacted { asked, oldest },
            Err(failure) => failure.into(),
        }
    }
}
