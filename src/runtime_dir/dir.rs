//! An open directory: what is in it is reached by its descriptor, so that no later look at a path,
//! which somebody may have turned elsewhere meanwhile, comes between a check and a use.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Stat, fstat, mkdirat, openat, renameat, statat, unlinkat,
};
use rustix::io::Errno;

/// For its owner alone.
pub(super) const PRIVATE: Mode = Mode::from_raw_mode(0o600);

/// A directory, open.
#[derive(Debug)]
pub(crate) struct Dir(OwnedFd);

impl Dir {
    /// Opens the directory at `path`, which may not be a symbolic link.
    ///
    /// # Errors
    /// `ELOOP` or `ENOTDIR` where its last component is a link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // Without the slash at its end, which would follow a link.
        let path: PathBuf = path.components().collect();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, &path, flags, Mode::empty())?))
    }

    /// As [`open`](Self::open), and the directory must be ours, unless we are root.
    ///
    /// # Errors
    /// `EACCES` where it is another user's.
    pub(crate) fn open_trusted(path: &Path) -> io::Result<Self> {
        let dir = Self::open(path)?;
        let user = rustix::process::geteuid();
        if user.is_root() || dir.stat()?.st_uid == user.as_raw() {
            return Ok(dir);
        }
        Err(Errno::ACCESS.into())
    }

    /// Opens one that others may use too, and that may be a link.
    pub(super) fn open_shared(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(openat(CWD, path, flags, Mode::empty())?))
    }

    /// Opens a directory in it, which may not be a link.
    pub(super) fn open_below(&self, name: &OsStr) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(openat(&self.0, name, flags, Mode::empty())?))
    }

    /// Opens a directory in it, and makes it if it isn't there.
    pub(super) fn open_or_make_below(&self, name: &OsStr) -> io::Result<Self> {
        match self.make_below(name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.open_below(name),
            made => made,
        }
    }

    /// Makes a directory in it that wasn't there.
    pub(super) fn make_below(&self, name: &OsStr) -> io::Result<Self> {
        mkdirat(&self.0, name, Mode::from_raw_mode(0o700))?;
        self.open_below(name)
    }

    /// Removes this directory, which holds files only, and is `name` in `parent`.
    pub(super) fn remove_from(&self, parent: &Self, name: &OsStr) -> io::Result<()> {
        for inside in self.names()? {
            unlinkat(&self.0, &inside, AtFlags::empty())?;
        }
        Ok(unlinkat(&parent.0, name, AtFlags::REMOVEDIR)?)
    }

    /// What the system says of it.
    pub(crate) fn stat(&self) -> io::Result<Stat> {
        Ok(fstat(&self.0)?)
    }

    /// What is in it.
    pub(super) fn names(&self) -> io::Result<Vec<OsString>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.0)? {
            let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Opens a file in it, which may not be a link.
    pub(super) fn open_file(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(openat(&self.0, name, flags, PRIVATE)?))
    }

    /// Whether `file` is what has this name.
    pub(super) fn is_named(&self, file: impl AsFd, name: &str) -> io::Result<bool> {
        let file = fstat(file)?;
        match statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(named) => Ok((named.st_dev, named.st_ino) == (file.st_dev, file.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a file; `None` if there is none.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        // A fifo would be waited for.
        let mut file = match self.open_file(name, OFlags::RDONLY | OFlags::NONBLOCK) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        Ok(Some(text))
    }

    /// Makes a file that nobody but its owner may read, from its first byte on; what had the name
    /// before is gone.
    pub(super) fn write(&self, name: &str, text: &[u8]) -> io::Result<()> {
        self.remove(name)?;
        let made = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        self.open_file(name, made)?.write_all(text)
    }

    /// Gives a file another name, in the place of what has it.
    pub(super) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(renameat(&self.0, from, &self.0, to)?)
    }

    /// Removes a file, if it is there.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.0, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A path to what has this name in it, for this process alone, as long as the directory is open.
    /// Short enough for a socket, however long its own path is.
    pub(crate) fn inside(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
