//! The store and the election as variables, for a process that reads no file.

use std::ffi::OsString;
use std::path::PathBuf;

use super::advice::Shown;
use super::{Config, keys};

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
            (
                keys::CANDIDATE_NAME.entry,
                Some(self.candidate_name.clone().into()),
            ),
            (
                keys::ETCD_ENDPOINTS.entry,
                Some(self.etcd.endpoints.join(",").into()),
            ),
            (
                keys::ETCD_CONNECT_TIMEOUT.entry,
                span(self.etcd.connect_timeout),
            ),
            (keys::ETCD_USERNAME.entry, text(&self.etcd.username)),
            (
                keys::ETCD_PASSWORD_FILE.entry,
                path(&self.etcd.password_file),
            ),
            (keys::ETCD_TLS_CA_FILE.entry, path(&tls.ca_file)),
            (keys::ETCD_TLS_CERT_FILE.entry, path(&tls.cert_file)),
            (keys::ETCD_TLS_KEY_FILE.entry, path(&tls.key_file)),
            (keys::ETCD_TLS_SERVER_NAME.entry, text(&tls.server_name)),
            (
                keys::ELECTION_PREFIX.entry,
                Some(self.election.prefix.as_str().into()),
            ),
            (keys::ELECTION_TTL.entry, span(self.election.ttl)),
            (
                keys::ELECTION_TAKEOVER_DELAY.entry,
                span(self.election.takeover_delay),
            ),
            // Without its graces a short TTL would be refused.
            (keys::JOB_LOST_GRACE.entry, span(self.job.lost_grace)),
            (keys::JOB_KILL_BUDGET.entry, span(self.job.kill_budget)),
        ];
        let set = set
            .into_iter()
            .filter_map(|(key, value)| Some((key.variable(), value?)));
        set.collect()
    }
}
