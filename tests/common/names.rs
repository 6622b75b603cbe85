//! Names that only one process knows, and addresses that lead nowhere.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, connect, listen, socket, socket_with,
};

use super::sandbox::Sandbox;

/// An address that answers nobody.
pub struct Dead {
    #[expect(dead_code, reason = "held so that they stay open")]
    sockets: Vec<OwnedFd>,
}

impl Dead {
    /// As that of a host that is down: nothing comes back.
    pub fn down(address: Ipv4Addr, port: u16) -> Self {
        let address = SocketAddrV4::new(address, port);
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&listener, &address).unwrap();
        listen(&listener, 0).unwrap();
        let mut sockets = vec![listener];
        // What its queue has no room for gets no answer.
        for _ in 0..4 {
            let flags = SocketFlags::NONBLOCK;
            let client = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
            connect(&client, &address).ok();
            sockets.push(client);
        }
        Self { sockets }
    }

    /// As that of a host that hangs: it takes connections, and then says nothing.
    pub fn silent(address: Ipv4Addr, port: u16) -> Self {
        let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&listener, &SocketAddrV4::new(address, port)).unwrap();
        listen(&listener, 1000).unwrap();
        Self {
            sockets: vec![listener],
        }
    }
}

impl Sandbox {
    /// A program that is `program`, in a world with these files in place of the system's own.
    pub fn with_files(&self, name: &str, program: &str, files: &[(&str, &str)]) -> PathBuf {
        let mut mounts = Vec::new();
        for (number, (path, text)) in files.iter().enumerate() {
            let file = self.join(&format!("{name}-{number}"));
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
            mounts.push(format!("mount --bind {} {path}", file.display()));
        }
        let mounts = mounts.join(" && ");
        let wrapper = self.join(name);
        let text = format!(
            "#!/bin/sh\nexec unshare -m sh -c '{mounts} && exec {program} \"$@\"' sh \"$@\"\n"
        );
        fs::write(&wrapper, text).unwrap();
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
        wrapper
    }
}
