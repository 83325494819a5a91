//! The policies of a data folder: one for each person or program, added and removed while its hub runs or while it does not.
//!
//! The changes go to the database; a hub that runs on it looks for them twice a second. Keys leave only in files for their owner alone.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use iothub_protocol::connection_string::{HostName, ServiceConnectionString};
use iothub_protocol::id::PolicyName;
use iothub_protocol::sas;

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
    /// The file for the connection string cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
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
        let reserved = Reserved::new(out)?;
        let policy = self
            .file
            .change(|policies| service::add(policies, name.clone(), rights))?;
        reserved.write(&self.connection_string(&policy, PolicyKey::Primary))
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
        let reserved = Reserved::new(out)?;
        let policy = self
            .file
            .change(|policies| service::rotate(policies, name, key))?;
        reserved.write(&self.connection_string(&policy, key))?;
        let own = self.folder.join(SERVICE_CONNECTION_STRING);
        if *name == OWNER && key == PolicyKey::Primary && own != out.path {
            // The one that the hub keeps beside its database would open nothing any more.
            write(&own, &self.connection_string(&policy, key))?;
        }
        Ok(())
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
        Reserved::new(out)?.write(&self.connection_string(&policy, key))
    }

    /// Writes a token of a policy to `out`: for programs that can send one and not make it. It opens what is beneath `path` (`/metrics`; `/`
    /// is all), until `expires_unix_s`, and no longer than its key is good.
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
        Reserved::new(out)?.write(text)
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

/// A file that is ours to write: made empty before anything is changed, taken away again if nothing comes of it.
struct Reserved<'a> {
    path: &'a Path,
    made: bool,
}

impl<'a> Reserved<'a> {
    fn new(out: &'a SecretFile) -> Result<Self, PoliciesError> {
        let path = out.path.as_path();
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match made {
            Ok(_) => Ok(Self { path, made: true }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if out.force {
                    Ok(Self { path, made: false })
                } else {
                    Err(PoliciesError::FileExists {
                        path: path.to_owned(),
                    })
                }
            }
            Err(source) => Err(PoliciesError::Write {
                path: path.to_owned(),
                source,
            }),
        }
    }

    fn write(mut self, text: &str) -> Result<(), PoliciesError> {
        write(self.path, text)?;
        self.made = false;
        Ok(())
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if self.made {
            // Empty, and no harm if it stays.
            let _ = fs::remove_file(self.path);
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), PoliciesError> {
    crate::pki::write_file(path, text, 0o600).map_err(|source| PoliciesError::Write {
        path: path.to_owned(),
        source,
    })
}
