//! The store and the election as variables, for a process that reads no file.

use std::ffi::OsString;
use std::path::PathBuf;

use super::keys::variable;
use super::{Config, advice::Shown};

impl Config {
    /// The `INCUMBENT__…` variables with which a command in the job finds the store and the
    /// election of its daemon. No secrets: of credentials only the absolute paths.
    ///
    /// They are complete without a file (`run -- COMMAND`). Beside a file they carry what flags and
    /// environment changed in it, and the paths of systemd's credentials, which the job couldn't
    /// resolve.
    pub fn to_env(&self) -> Vec<(String, OsString)> {
        let path = |path: &Option<PathBuf>| path.clone().map(OsString::from);
        let text = |text: &Option<String>| text.clone().map(OsString::from);
        let span = |span| Some(Shown(span).to_string().into());
        let tls = &self.etcd.tls;
        let set = [
            ("candidate.name", Some(self.candidate_name.clone().into())),
            ("etcd.endpoints", Some(self.etcd.endpoints.join(",").into())),
            ("etcd.connect_timeout", span(self.etcd.connect_timeout)),
            ("etcd.username", text(&self.etcd.username)),
            ("etcd.password_file", path(&self.etcd.password_file)),
            ("etcd.tls.ca_file", path(&tls.ca_file)),
            ("etcd.tls.cert_file", path(&tls.cert_file)),
            ("etcd.tls.key_file", path(&tls.key_file)),
            ("etcd.tls.server_name", text(&tls.server_name)),
            (
                "election.prefix",
                Some(self.election.prefix.as_str().into()),
            ),
            ("election.ttl", span(self.election.ttl)),
            (
                "election.takeover_delay",
                span(self.election.takeover_delay),
            ),
            // Without its graces a short TTL would be refused.
            ("job.lost_grace", span(self.job.lost_grace)),
            ("job.kill_budget", span(self.job.kill_budget)),
        ];
        let set = set
            .into_iter()
            .filter_map(|(key, value)| Some((variable(key), value?)));
        set.collect()
    }
}
