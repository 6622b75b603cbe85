//! What `kv get`, `put` and `del` take, alone or in a transaction.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use clap::{Parser, ValueEnum};

use crate::keys::LeaseId;
use crate::kv::txn::Operation;
use crate::kv::{Between, Detail, Direction, Get, Put, SortBy, Span};
use crate::revision::Revision;

/// Which keys.
#[derive(Debug, clap::Args)]
pub(super) struct Range {
    /// The key, or where the range begins
    key: OsString,

    /// Where the range ends; this key is not in it
    #[arg(conflicts_with_all = ["prefix", "from_key"])]
    end: Option<OsString>,

    /// Take KEY for a prefix, and every key that begins with it
    #[arg(long)]
    prefix: bool,

    /// Take every key from KEY on, in the order of their bytes
    #[arg(long, conflicts_with = "prefix")]
    from_key: bool,
}

impl Range {
    pub(super) fn span(&self) -> Span {
        let key = self.key.clone().into_vec();
        match &self.end {
            Some(end) => Span::range(key, end.clone().into_vec()),
            None if self.prefix => Span::prefix(key),
            None if self.from_key => Span::from_key(key),
            None => Span::key(key),
        }
    }
}

/// What to read.
#[derive(Debug, clap::Args)]
pub(super) struct Read {
    #[command(flatten)]
    range: Range,

    /// As of this revision; 0 is now
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    rev: i64,

    /// At most so many keys; 0 is all
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    limit: i64,

    /// Which way to sort
    #[arg(long, value_enum, value_name = "ORDER", ignore_case = true)]
    order: Option<OrderName>,

    /// By what to sort
    #[arg(long, value_enum, value_name = "TARGET", ignore_case = true)]
    sort_by: Option<SortName>,

    /// Only keys that were made at this revision or later
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    min_create_rev: i64,

    /// Only keys that were made at this revision or before; 0 is any
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    max_create_rev: i64,

    /// Only keys that were written last at this revision or later
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    min_mod_rev: i64,

    /// Only keys that were written last at this revision or before; 0 is any
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(i64).range(0..))]
    max_mod_rev: i64,

    /// Leave out the values
    #[arg(long)]
    keys_only: bool,

    /// Print only how many keys there are, whatever the limit
    #[arg(long, conflicts_with = "keys_only")]
    pub(super) count_only: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OrderName {
    #[value(name = "ASCEND")]
    Ascend,
    #[value(name = "DESCEND")]
    Descend,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SortName {
    #[value(name = "CREATE")]
    Create,
    #[value(name = "KEY")]
    Key,
    #[value(name = "MODIFY")]
    Modify,
    #[value(name = "VALUE")]
    Value,
    #[value(name = "VERSION")]
    Version,
}

impl Read {
    pub(super) fn get(&self) -> Get {
        let sort_by = self.sort_by.map(|name| match name {
            SortName::Create => SortBy::Create,
            SortName::Key => SortBy::Key,
            SortName::Modify => SortBy::Modify,
            SortName::Value => SortBy::Value,
            SortName::Version => SortBy::Version,
        });
        let direction = self.order.map(|name| match name {
            OrderName::Ascend => Direction::Ascend,
            OrderName::Descend => Direction::Descend,
        });
        let between = |min, max| Between {
            min: Revision::new(min),
            max: Revision::new(max),
        };
        Get {
            span: self.range.span(),
            revision: Revision::new(self.rev),
            limit: self.limit,
            detail: match (self.keys_only, self.count_only) {
                (_, true) => Detail::Count,
                (true, _) => Detail::Keys,
                _ => Detail::Values,
            },
            sort: (sort_by, direction),
            created: between(self.min_create_rev, self.max_create_rev),
            written: between(self.min_mod_rev, self.max_mod_rev),
        }
    }
}

/// One line of a transaction that does something.
#[derive(Debug, Parser)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    disable_help_subcommand = true
)]
pub(super) enum OperationLine {
    Get {
        #[command(flatten)]
        read: Read,
        /// Of no effect in a transaction, as with etcdctl
        #[arg(long)]
        print_value_only: bool,
    },
    Put {
        key: OsString,
        #[arg(allow_negative_numbers = true)]
        value: OsString,
        #[arg(long)]
        prev_kv: bool,
        #[arg(long, value_name = "HEX", value_parser = lease)]
        lease: Option<LeaseId>,
    },
    Del {
        #[command(flatten)]
        range: Range,
        #[arg(long)]
        prev_kv: bool,
        /// Of no effect: who names the end of a range is not asked again
        #[arg(long = "range")]
        is_range: bool,
    },
}

impl OperationLine {
    pub(super) fn operation(self) -> Operation {
        match self {
            Self::Get { read, .. } => Operation::Get(read.get()),
            Self::Put {
                key,
                value,
                prev_kv,
                lease,
            } => Operation::Put(Put {
                key: key.into_vec(),
                value: value.into_vec(),
                lease,
                prev_kv,
            }),
            Self::Del { range, prev_kv, .. } => Operation::Delete(range.span(), prev_kv),
        }
    }
}

/// Reads a lease as etcdctl prints it.
pub(super) fn lease(text: &str) -> Result<LeaseId, &'static str> {
    let id = i64::from_str_radix(text, 16).ok();
    id.and_then(LeaseId::new)
        .ok_or("expected a lease id in hex, such as 32696bd0d159d067")
}
