//! The store and the election as variables, for a process that reads no file.

use std::path::Path;

use super::keys::variable;
use super::{Config, advice::Shown};

impl Config {
    /// The `INCUMBENT__…` variables with which a command in the job finds the store and the
    /// election of its daemon. No secrets: of credentials only the absolute paths.
    ///
    /// They are complete without a file (`run -- COMMAND`). Beside a file they carry what flags and
    /// environment changed in it, and the paths of systemd's credentials, which the job couldn't
    /// resolve.
    pub fn to_env(&self) -> Vec<(String, String)> {
        let path = |path: &Option<_>| {
            path.as_deref()
                .map(|path: &Path| path.to_string_lossy().into_owned())
        };
        let tls = &self.etcd.tls;
        let set = [
            ("candidate.name", Some(self.candidate_name.clone())),
            ("etcd.endpoints", Some(self.etcd.endpoints.join(","))),
            (
                "etcd.connect_timeout",
                Some(Shown(self.etcd.connect_timeout).to_string()),
            ),
            ("etcd.username", self.etcd.username.clone()),
            ("etcd.password_file", path(&self.etcd.password_file)),
            ("etcd.tls.ca_file", path(&tls.ca_file)),
            ("etcd.tls.cert_file", path(&tls.cert_file)),
            ("etcd.tls.key_file", path(&tls.key_file)),
            ("etcd.tls.server_name", tls.server_name.clone()),
            (
                "election.prefix",
                Some(self.election.prefix.as_str().to_owned()),
            ),
            ("election.ttl", Some(Shown(self.election.ttl).to_string())),
            (
                "election.takeover_delay",
                Some(Shown(self.election.takeover_delay).to_string()),
            ),
            // Without its graces a short TTL would be refused.
            (
                "job.lost_grace",
                Some(Shown(self.job.lost_grace).to_string()),
            ),
            (
                "job.kill_budget",
                Some(Shown(self.job.kill_budget).to_string()),
            ),
        ];
        let set = set
            .into_iter()
            .filter_map(|(key, value)| Some((variable(key), value?)));
        set.collect()
    }
}
