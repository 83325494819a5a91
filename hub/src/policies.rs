//! The policies of a data folder: one for each person or program, added and removed while its hub
//! runs or while it does not.
//!
//! The changes go to the database; a hub that runs on it looks for them twice a second. Keys leave
//! only in files for their owner alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use iothub_protocol::connection_string::{HostName, ServiceConnectionString};
use iothub_protocol::id::PolicyName;
use iothub_protocol::sas;

use crate::data::sync_folder_of;
use crate::identity::{Policy, Rights};
use crate::service::{self, OWNER, PolicyError, PolicyKey};
use crate::store::PolicyFile;
use crate::{DATABASE, SERVICE_CONNECTION_STRING};

/// The policies of a data folder.
#[derive(Debug)]
pub struct Policies {
    file: PolicyFile,
    folder: PathBuf,
    host_name: HostName,
}

/// Where a connection string is written.
#[derive(Debug, Clone)]
pub struct SecretFile {
    /// The file.
    pub path: PathBuf,
    /// Whether one that is there may be overwritten.
    pub force: bool,
}

/// What a token is for, and how it is written.
#[derive(Debug, Clone, Copy)]
pub struct TokenForm<'a> {
    /// What it opens, with all beneath: a path of the API, from its `/` on.
    pub path: &'a str,
    /// When it ends, in seconds since 1970.
    pub expires_unix_s: u64,
    /// Whether the scheme (`SharedAccessSignature`) stands before it, as in the header.
    pub scheme: bool,
}

/// Why something could not be done with the policies.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoliciesError {
    /// The folder is not that of a hub.
    #[error("{} is not the data folder of a hub: it has no {SERVICE_CONNECTION_STRING}, which says by what name the hub is dialled; `door-hub init` makes one", .folder.display())]
    NoHub {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file that names the hub is spoilt.
    #[error("{} is not a connection string; the hub writes it anew when it starts", .path.display())]
    HubName {
        /// The file.
        path: PathBuf,
    },
    /// A rule forbids it, or the database cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The file for the connection string is there already.
    #[error("{} is there already; --force overwrites it, --out names another", .path.display())]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// The file to overwrite is a folder, a device or a pipe.
    #[error("{} is not a regular file; expected --out with one, or with a new name; nothing was changed", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file for the connection string cannot be written.
    #[error("cannot write {}; nothing was changed", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The policy is changed, and its connection string is not in the file.
    #[error(
        "policy `{policy}` is changed, but {} cannot be written; write its connection string with: door-hub policy show {policy} --key {key} --out FILE",
        .path.display()
    )]
    NotInPlace {
        /// The policy.
        policy: PolicyName,
        /// The key that the connection string should carry.
        key: PolicyKey,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl PoliciesError {
    /// The error of a file that was to be written when `policy` had been changed.
    fn after_change(self, policy: &PolicyName, key: PolicyKey) -> Self {
        match self {
            Self::Write { path, source } => Self::NotInPlace {
                policy: policy.clone(),
                key,
                path,
                source,
            },
            error => error,
        }
    }
}

impl Policies {
    /// Opens those of the hub in `folder`.
    ///
    /// # Errors
    ///
    /// When there is no hub there, or one of another version.
    pub fn open(folder: &Path) -> Result<Self, PoliciesError> {
        let path = folder.join(SERVICE_CONNECTION_STRING);
        let owner = fs::read_to_string(&path).map_err(|source| PoliciesError::NoHub {
            folder: folder.to_owned(),
            source,
        })?;
        let owner: ServiceConnectionString = owner
            .trim()
            .parse()
            .map_err(|_| PoliciesError::HubName { path })?;
        Ok(Self {
            file: PolicyFile::open(&folder.join(DATABASE)).map_err(PolicyError::from)?,
            folder: folder.to_owned(),
            host_name: owner.host_name,
        })
    }

    /// All of them, by name.
    ///
    /// # Errors
    ///
    /// When they cannot be read.
    pub fn list(&self) -> Result<Vec<Policy>, PoliciesError> {
        Ok(self.file.list().map_err(PolicyError::from)?)
    }

    /// The policy of that name.
    ///
    /// # Errors
    ///
    /// When there is none.
    pub fn get(&self, name: &PolicyName) -> Result<Policy, PoliciesError> {
        let mut policies = self.list()?;
        Ok(service::find(&mut policies, name)?.clone())
    }

    /// Adds a policy and writes its connection string to `out`.
    ///
    /// # Errors
    ///
    /// When a rule forbids it or the file cannot be written; then nothing is added.
    pub fn add(
        &mut self,
        name: &PolicyName,
        rights: Rights,
        out: &SecretFile,
    ) -> Result<(), PoliciesError> {
        let policy = service::add(&mut self.list()?, name.clone(), rights)?;
        let file = Prepared::new(out, &self.connection_string(&policy, PolicyKey::Primary))?;
        self.file.change(|policies| {
            service::add(policies, name.clone(), rights)?;
            // With the keys that the file has.
            *service::find(policies, name)? = policy;
            Ok::<_, PolicyError>(())
        })?;
        let key = PolicyKey::Primary;
        file.put().map_err(|error| error.after_change(name, key))
    }

    /// Gives a policy a new key and writes the connection string with it to `out`.
    ///
    /// # Errors
    ///
    /// When there is no such policy or the file cannot be written; then the key stays.
    pub fn rotate(
        &mut self,
        name: &PolicyName,
        key: PolicyKey,
        out: &SecretFile,
    ) -> Result<(), PoliciesError> {
        let policy = service::rotate(&mut self.list()?, name, key)?;
        let text = self.connection_string(&policy, key);
        let own = SecretFile {
            path: self.folder.join(SERVICE_CONNECTION_STRING),
            force: true,
        };
        // The one that the hub keeps beside its database would open nothing any more.
        let keeps_own = *name == OWNER && key == PolicyKey::Primary && !own.is(&out.path);
        let mut files = vec![Prepared::new(out, &text)?];
        if keeps_own {
            files.push(Prepared::new(&own, &text)?);
        }
        self.file.change(|policies| {
            let keys = &mut service::find(policies, name)?.keys;
            // The key that the files have; the other one may have been changed meanwhile.
            match key {
                PolicyKey::Primary => keys.primary = policy.keys.primary,
                PolicyKey::Secondary => keys.secondary = policy.keys.secondary,
            }
            Ok::<_, PolicyError>(())
        })?;
        let put = files.into_iter().try_for_each(Prepared::put);
        put.map_err(|error| error.after_change(name, key))
    }

    /// Removes a policy: its tokens open nothing any more.
    ///
    /// # Errors
    ///
    /// When a rule forbids it.
    pub fn remove(&mut self, name: &PolicyName) -> Result<(), PoliciesError> {
        let removed = self.file.change(|policies| service::remove(policies, name));
        if matches!(removed, Err(PolicyError::Unknown { .. }))
            && *name != OWNER
            && self.file.remove_damaged(name).map_err(PolicyError::from)?
        {
            return Ok(());
        }
        Ok(removed?)
    }

    /// Writes the connection string of a policy to `out`.
    ///
    /// # Errors
    ///
    /// When there is no such policy or the file cannot be written.
    pub fn export(
        &self,
        name: &PolicyName,
        key: PolicyKey,
        out: &SecretFile,
    ) -> Result<(), PoliciesError> {
        let policy = self.get(name)?;
        Prepared::new(out, &self.connection_string(&policy, key))?.put()
    }

    /// Writes a token of a policy to `out`: for programs that can send one and not make it. It
    /// opens what is beneath `path` (`/metrics`; `/` is all), until `expires_unix_s`, and no
    /// longer than its key is good.
    ///
    /// # Errors
    ///
    /// When there is no such policy or the file cannot be written.
    pub fn token(
        &self,
        name: &PolicyName,
        form: &TokenForm<'_>,
        out: &SecretFile,
    ) -> Result<(), PoliciesError> {
        let policy = self.get(name)?;
        // Tokens are for a name, whatever the port.
        let host = self.host_name.as_str();
        let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let audience = format!("{host}{}", form.path.trim_end_matches('/'));
        let key = &policy.keys.primary;
        let token = sas::sign(&audience, key, form.expires_unix_s, Some(name));
        let text = match form.scheme {
            true => token.as_str(),
            false => token
                .strip_prefix(sas::SCHEME)
                .unwrap_or(&token)
                .trim_start(),
        };
        Prepared::new(out, text)?.put()
    }

    fn connection_string(&self, policy: &Policy, key: PolicyKey) -> String {
        let key = match key {
            PolicyKey::Primary => &policy.keys.primary,
            PolicyKey::Secondary => &policy.keys.secondary,
        };
        let string = ServiceConnectionString {
            host_name: self.host_name.clone(),
            policy: policy.name.clone(),
            key: key.clone(),
        };
        string.expose_secret()
    }
}

impl SecretFile {
    /// Whether `path` leads to the same file.
    fn is(&self, path: &Path) -> bool {
        let real = fs::canonicalize(&self.path);
        real.is_ok_and(|real| fs::canonicalize(path).is_ok_and(|path| path == real))
    }
}

/// A secret that is on disk before anything is changed: under its own name if that was free, else
/// beside the file that it will replace. It goes again if nothing comes of it.
struct Prepared {
    path: PathBuf,
    written: PathBuf,
    is_final: bool,
}

impl Prepared {
    fn new(out: &SecretFile, text: &str) -> Result<Self, PoliciesError> {
        let failed = |source| PoliciesError::Write {
            path: out.path.clone(),
            source,
        };
        let (path, written) = match fs::symlink_metadata(&out.path) {
            Ok(_) if !out.force => {
                return Err(PoliciesError::FileExists {
                    path: out.path.clone(),
                });
            }
            Ok(_) => {
                // What a link leads to is replaced, and not the link.
                if !out.path.is_file() {
                    return Err(PoliciesError::NotAFile {
                        path: out.path.clone(),
                    });
                }
                let path = fs::canonicalize(&out.path).map_err(failed)?;
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let beside = format!(".{name}.{}.new", std::process::id());
                let beside = path.with_file_name(beside);
                (path, beside)
            }
            Err(_) => (out.path.clone(), out.path.clone()),
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&written)
            .map_err(failed)?;
        let prepared = Self {
            path,
            written,
            is_final: false,
        };
        let on_disk = |file: &mut File| -> io::Result<()> {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            sync_folder_of(&prepared.written)
        };
        on_disk(&mut file).map_err(failed)?;
        Ok(prepared)
    }

    /// Makes it final.
    fn put(mut self) -> Result<(), PoliciesError> {
        if self.written == self.path {
            self.is_final = true;
            return Ok(());
        }
        let put = fs::rename(&self.written, &self.path).and_then(|()| sync_folder_of(&self.path));
        put.map_err(|source| PoliciesError::Write {
            path: self.path.clone(),
            source,
        })?;
        self.is_final = true;
        Ok(())
    }
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if !self.is_final {
            // Its key opens nothing, or is in the database.
            let _ = fs::remove_file(&self.written);
        }
    }
}
