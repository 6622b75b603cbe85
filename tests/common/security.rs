//! What secures a store: certificates that are made for the test, and users.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};

use super::cluster::Cluster;
use super::daemon::Daemon;
use super::output::Line;
use super::store;
use super::wait::{eventually, secs};

/// Who may do everything once authentication is on.
pub const ROOT: (&str, &str) = ("root", "root-of-the-tests");

/// The name of each cluster's own authority.
pub const AUTHORITY: &str = "authority";

/// Somebody who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as text.
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
}

/// TLS of a cluster: the files that its members read at each handshake, and those of a client.
pub struct Tls {
    folder: PathBuf,
    authority: Authority,
    /// Whether members ask for a client's certificate.
    pub is_mutual: bool,
}

impl Authority {
    /// One that nobody trusts yet.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    /// Its own certificate.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A good certificate for a common name, and for hosts.
    pub fn issue(&self, common_name: &str, hosts: &[&str]) -> Issued {
        self.sign(common_name, hosts, |_| {})
    }

    /// The same, which has expired long ago.
    pub fn issue_expired(&self, common_name: &str, hosts: &[&str]) -> Issued {
        self.sign(common_name, hosts, |params| {
            params.not_before = date_time_ymd(2019, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 1);
        })
    }

    /// The same, which began to be good so long ago, and is no longer than that from now on.
    pub fn issue_around_now(&self, common_name: &str, hosts: &[&str], span: Duration) -> Issued {
        let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let now = date_time_ymd(1970, 1, 1) + now;
        self.sign(common_name, hosts, |params| {
            params.not_before = now - span;
            params.not_after = now + span;
        })
    }

    fn sign(
        &self,
        common_name: &str,
        hosts: &[&str],
        change: impl Fn(&mut CertificateParams),
    ) -> Issued {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).unwrap();
        let names = &mut params.distinguished_name;
        names.push(DnType::CommonName, common_name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        }
    }
}

impl Issued {
    /// Puts both in place, as a tool that renews certificates does.
    pub fn write(&self, certificate: &Path, key: &Path) {
        write(certificate, &self.certificate);
        write(key, &self.key);
    }
}

/// Replaces a file in one step.
pub fn write(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&new, file).unwrap();
}

impl Tls {
    /// An authority, and good certificates for the members and a client.
    pub(super) fn new(folder: PathBuf, is_mutual: bool) -> Self {
        fs::create_dir(&folder).unwrap();
        let tls = Self {
            folder,
            authority: Authority::new(AUTHORITY),
            is_mutual,
        };
        write(&tls.ca(), &tls.authority.pem());
        tls.members_show(&tls.authority.issue("member", &["127.0.0.1", "etcd.test"]));
        let client = tls.authority.issue("client", &[]);
        client.write(&tls.certificate(), &tls.key());
        let root = tls.authority.issue(ROOT.0, &[]);
        root.write(&tls.file("root.pem"), &tls.file("root.key"));
        tls
    }

    /// Who signs for this cluster.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Gives the members another certificate, from the next handshake on.
    pub fn members_show(&self, issued: &Issued) {
        issued.write(&self.file("member.pem"), &self.file("member.key"));
    }

    /// A file beside the others.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.file("ca.pem")
    }

    /// The client's certificate.
    pub fn certificate(&self) -> PathBuf {
        self.file("client.pem")
    }

    /// The client's key.
    pub fn key(&self) -> PathBuf {
        self.file("client.key")
    }

    /// What members are started with.
    pub(super) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "--cert-file".to_owned(),
            self.file("member.pem").display().to_string(),
            "--key-file".to_owned(),
            self.file("member.key").display().to_string(),
        ];
        if self.is_mutual {
            arguments.push("--client-cert-auth".to_owned());
            arguments.push("--trusted-ca-file".to_owned());
            arguments.push(self.ca().display().to_string());
        }
        arguments
    }

    /// The harness' own way in.
    pub(super) fn options(&self) -> TlsOptions {
        let read = |path: PathBuf| fs::read(path).unwrap();
        TlsOptions::new()
            .ca_certificate(Certificate::from_pem(read(self.ca())))
            .identity(Identity::from_pem(
                read(self.file("root.pem")),
                read(self.file("root.key")),
            ))
    }

    /// The files of a client, by the keys of the configuration.
    pub(super) fn settings(&self) -> Vec<(&'static str, PathBuf)> {
        let mut settings = vec![("ca_file", self.ca())];
        if self.is_mutual {
            settings.push(("cert_file", self.certificate()));
            settings.push(("key_file", self.key()));
        }
        settings
    }

    /// The same for `etcdctl`.
    pub fn variables(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("ETCDCTL_CACERT", self.ca()),
            ("ETCDCTL_CERT", self.file("root.pem")),
            ("ETCDCTL_KEY", self.file("root.key")),
        ]
    }
}

impl Cluster {
    /// Turns authentication on; from now on the harness and `etcdctl` are [`ROOT`].
    pub fn turn_auth_on(&self) {
        let (name, password) = ROOT;
        self.block_on(async {
            let mut client = self.client(0);
            client.user_add(name, password, None).await.unwrap();
            client.user_grant_role(name, "root").await.unwrap();
            client.auth_enable().await.unwrap();
        });
        self.log_in();
    }

    /// Turns authentication off.
    pub fn turn_auth_off(&self) {
        self.block_on(async {
            self.client(0).auth_disable().await.unwrap();
        });
        let connect =
            |url: &String| self.block_on(store::connect_with(url, self.tls(), |options| options));
        self.set_clients(self.endpoints().iter().map(connect).collect());
    }

    /// Turns authentication on, where [`ROOT`] is known already.
    pub fn turn_auth_on_again(&self) {
        self.block_on(async {
            self.client(0).auth_enable().await.unwrap();
        });
        self.log_in();
    }

    fn log_in(&self) {
        let (name, password) = ROOT;
        let log_in = |options: ConnectOptions| options.with_user(name, password);
        let connect = |url: &String| self.block_on(store::connect_with(url, self.tls(), log_in));
        let clients: Vec<Client> = self.endpoints().iter().map(connect).collect();
        self.set_clients(clients);
    }

    /// Sets a user's password, as an operator would.
    pub fn set_password(&self, name: &str, password: &str) {
        self.ask("a new password", async |mut client| {
            client.user_change_password(name, password).await.map(drop)
        });
    }
}

impl Daemon {
    /// Waits for a line with this message that holds these words. The store's absence is said every
    /// 30 s, and on a busy machine the first reason may be another.
    #[track_caller]
    pub fn wait_said(&self, message: &str, words: &str) {
        let what = format!("{} says {words:?} in {message:?}", self.name());
        let field = |line: &Line| {
            let said = ["error", "reason"].map(|field| line.get(field).cloned());
            let said = said.into_iter().flatten();
            said.filter_map(|value| value.as_str().map(str::to_owned))
                .collect::<String>()
        };
        eventually(secs(45), &what, || {
            let said: Vec<_> = self.lines(message).iter().map(field).collect();
            let is_said = said.iter().any(|said| said.contains(words));
            if is_said { Ok(()) } else { Err(said) }
        });
    }
}
