//! What the guardian's first thread waits for.
//!
//! By epoll, which is there from the start: poll(2) refuses whoever has no more descriptors to be had than
//! it asks about, and a limit may be lowered at any time (R15).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::Errno;

/// How long it waits at most while it can't be told of one source.
const BLIND: Duration = Duration::from_millis(10);

/// Whose news it is that was waited for.
const NEWS: u64 = 0;
const DAEMON: u64 = 1;
const LINK: u64 = 2;

/// The sources that wake the thread.
#[derive(Debug)]
pub(super) struct Waits {
    epoll: OwnedFd,
    /// Whether room in the link is waited for; nothing once the link is left out.
    link: Option<bool>,
    daemon: bool,
    blind: bool,
}

impl Waits {
    /// Waits for the link alone.
    pub(super) fn new(link: impl AsFd) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, link, EventData::new_u64(LINK), EventFlags::IN)?;
        Ok(Self {
            epoll,
            link: Some(false),
            daemon: false,
            blind: false,
        })
    }

    /// Waits for whatever is readable, for good.
    pub(super) fn add(&self, source: impl AsFd) -> io::Result<()> {
        let news = EventData::new_u64(NEWS);
        Ok(epoll::add(&self.epoll, source, news, EventFlags::IN)?)
    }

    /// Waits for the daemon's death, until that was seen.
    pub(super) fn add_daemon(&mut self, pidfd: impl AsFd) -> io::Result<()> {
        let daemon = EventData::new_u64(DAEMON);
        epoll::add(&self.epoll, pidfd, daemon, EventFlags::IN)?;
        self.daemon = true;
        Ok(())
    }

    /// Leaves the daemon out, which is dead for ever.
    pub(super) fn leave_daemon(&mut self, pidfd: impl AsFd) {
        if self.daemon {
            self.daemon = epoll::delete(&self.epoll, pidfd).is_err();
        }
    }

    /// Waits for room in the link too, or for nothing of it where it is closed.
    pub(super) fn set_link(&mut self, link: impl AsFd, is_open: bool, backlog: bool) {
        let Some(room) = self.link else { return };
        if !is_open {
            if epoll::delete(&self.epoll, link).is_ok() {
                self.link = None;
            }
        } else if room != backlog {
            let mut flags = EventFlags::IN;
            flags.set(EventFlags::OUT, backlog);
            match epoll::modify(&self.epoll, link, EventData::new_u64(LINK), flags) {
                Ok(()) => self.link = Some(backlog),
                Err(_) => self.blind = true,
            }
        }
    }

    /// Waits for the next news of a source that may be gone afterwards; again and again where it isn't.
    pub(super) fn add_once(&mut self, source: impl AsFd) {
        // A copy in another child would keep it readable for ever.
        let flags = EventFlags::IN | EventFlags::ONESHOT;
        let news = EventData::new_u64(NEWS);
        let again = epoll::modify(&self.epoll, &source, news, flags);
        let added = match again {
            Err(Errno::NOENT) => epoll::add(&self.epoll, &source, news, flags),
            known => known,
        };
        self.blind |= added.is_err();
    }

    /// Waits for whatever comes first; returns whether the daemon is dead.
    pub(super) fn wait(&mut self) -> io::Result<bool> {
        let limit = Timespec {
            tv_sec: 0,
            tv_nsec: BLIND.subsec_nanos().into(),
        };
        let blind = std::mem::take(&mut self.blind);
        let mut space = [MaybeUninit::<Event>::uninit(); 8];
        match epoll::wait(&self.epoll, &mut space, blind.then_some(&limit)) {
            Ok((events, _)) => Ok(events.iter().any(|event| event.data.u64() == DAEMON)),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
