//! The shared access policies of a data folder: one for each person or program, added and removed
//! whether or not its hub is running.
//!
//! Changes go to the database; a running hub polls for them twice a second. Keys are only ever
//! written to files of mode 0600.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use iothub_protocol::connection_string::{HostName, ServiceConnectionString};
use iothub_protocol::id::PolicyName;
use iothub_protocol::policy::Bounds;
use iothub_protocol::sas;

use crate::data::sync_parent;
use crate::identity::{Policy, Rights};
use crate::service::{self, OWNER, PolicyError, PolicyKey};
use crate::store::PolicyFile;
use crate::{DATABASE, SERVICE_CONNECTION_STRING};

#[derive(Debug)]
pub struct Policies {
    file: PolicyFile,
    folder: PathBuf,
    host_name: HostName,
}

/// Where to write a connection string or a token.
#[derive(Debug, Clone)]
pub struct SecretFile {
    pub path: PathBuf,
    /// Whether to overwrite an existing file.
    pub force: bool,
}

/// The scope, lifetime and form of a token.
#[derive(Debug, Clone, Copy)]
pub struct TokenOptions<'a> {
    /// The path of the API that it grants access to, with everything below; starts with `/`.
    pub path: &'a str,
    /// Expiry in seconds since 1970.
    pub expires_unix_s: u64,
    /// Whether to write the scheme (`SharedAccessSignature`) before it, as in the header.
    pub scheme: bool,
}

/// Why an operation on the policies failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoliciesError {
    /// The folder is not the data folder of a hub.
    #[error(
        "{} is not the data folder of a hub: it has no {SERVICE_CONNECTION_STRING}, which holds \
         the hub's host name; create one with `door-hub init`",
        .folder.display()
    )]
    NoHub { folder: PathBuf, source: io::Error },
    /// The file with the hub's host name is invalid.
    #[error("{} is not a connection string; restart the hub to write it again", .path.display())]
    InvalidConnectionString { path: PathBuf },
    /// The change is not allowed, or the database cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(
        "{} already exists; use --force to overwrite it or --out to write another file",
        .path.display()
    )]
    FileExists { path: PathBuf },
    /// The file to overwrite is a folder, a device or a pipe.
    #[error(
        "{} is not a regular file; expected --out with a regular file or a new name; nothing was \
         changed",
        .path.display()
    )]
    NotAFile { path: PathBuf },
    #[error("cannot write {}; nothing was changed", .path.display())]
    Write { path: PathBuf, source: io::Error },
    /// The policy was changed, but its connection string could not be written.
    #[error(
        "policy `{policy}` was changed, but {} cannot be written; write its connection string \
         with: door-hub policy show {policy} --key {key} --out FILE",
        .path.display()
    )]
    NotWritten {
        policy: PolicyName,
        /// The key that the connection string was to carry.
        key: PolicyKey,
        path: PathBuf,
        source: io::Error,
    },
}

impl PoliciesError {
    /// Converts an error of writing the file that occurred after `policy` had been changed.
    fn after_change(self, policy: &PolicyName, key: PolicyKey) -> Self {
        match self {
            Self::Write { path, source } => Self::NotWritten {
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
    /// Opens the policies of the hub in `folder`; fails if there is no hub or it has another
    /// schema version.
    pub fn open(folder: &Path) -> Result<Self, PoliciesError> {
        let path = folder.join(SERVICE_CONNECTION_STRING);
        let owner = fs::read_to_string(&path).map_err(|source| PoliciesError::NoHub {
            folder: folder.to_owned(),
            source,
        })?;
        let owner: ServiceConnectionString = owner
            .trim()
            .parse()
            .map_err(|_| PoliciesError::InvalidConnectionString { path })?;
        Ok(Self {
            file: PolicyFile::open(&folder.join(DATABASE)).map_err(PolicyError::from)?,
            folder: folder.to_owned(),
            host_name: owner.host_name,
        })
    }

    /// All policies, sorted by name.
    pub fn list(&self) -> Result<Vec<Policy>, PoliciesError> {
        Ok(self.file.list().map_err(PolicyError::from)?)
    }

    /// Fails if there is no policy of that name.
    pub fn get(&self, name: &PolicyName) -> Result<Policy, PoliciesError> {
        let mut policies = self.list()?;
        Ok(service::find(&mut policies, name)?.clone())
    }

    /// Adds a policy and writes its connection string to `out`. If the file cannot be written,
    /// nothing is added.
    pub fn add(
        &mut self,
        name: &PolicyName,
        rights: Rights,
        bounds: Option<Bounds>,
        out: &SecretFile,
    ) -> Result<(), PoliciesError> {
        let policy = service::add(&mut self.list()?, name.clone(), rights, bounds)?;
        let file = StagedSecret::new(out, &self.connection_string(&policy, PolicyKey::Primary))?;
        self.file.change(|policies| {
            service::add(policies, name.clone(), rights, policy.bounds.clone())?;
            // With the keys that were written to the file.
            *service::find(policies, name)? = policy;
            Ok::<_, PolicyError>(())
        })?;
        let key = PolicyKey::Primary;
        file.commit().map_err(|error| error.after_change(name, key))
    }

    /// Generates a new key for a policy and writes the connection string with it to `out`. If the
    /// file cannot be written, the key does not change.
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
        // The hub's own copy of the owner's connection string would hold an invalid key.
        let keeps_own = *name == OWNER && key == PolicyKey::Primary && !own.is(&out.path);
        let mut files = vec![StagedSecret::new(out, &text)?];
        if keeps_own {
            files.push(StagedSecret::new(&own, &text)?);
        }
        self.file.change(|policies| {
            let keys = &mut service::find(policies, name)?.keys;
            // The key that the files hold; the other one may have changed in the meantime.
            match key {
                PolicyKey::Primary => keys.primary = policy.keys.primary,
                PolicyKey::Secondary => keys.secondary = policy.keys.secondary,
            }
            Ok::<_, PolicyError>(())
        })?;
        let commit = files.into_iter().try_for_each(StagedSecret::commit);
        commit.map_err(|error| error.after_change(name, key))
    }

    /// Removes a policy; its tokens become invalid.
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
    pub fn export(
        &self,
        name: &PolicyName,
        key: PolicyKey,
        out: &SecretFile,
    ) -> Result<(), PoliciesError> {
        let policy = self.get(name)?;
        StagedSecret::new(out, &self.connection_string(&policy, key))?.commit()
    }

    /// Writes a token of a policy to `out`, for programs that can send a token but not sign one. It
    /// grants access below `form.path` (`/metrics`; `/` is everything) until
    /// `form.expires_unix_s`, unless its key is rotated earlier.
    pub fn token(
        &self,
        name: &PolicyName,
        form: &TokenOptions<'_>,
        out: &SecretFile,
    ) -> Result<(), PoliciesError> {
        let policy = self.get(name)?;
        // The audience of a token is a host name without a port.
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
        StagedSecret::new(out, text)?.commit()
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
    /// Whether `path` resolves to the same file.
    fn is(&self, path: &Path) -> bool {
        let real = fs::canonicalize(&self.path);
        real.is_ok_and(|real| fs::canonicalize(path).is_ok_and(|path| path == real))
    }
}

/// A secret that is on disk before the database changes: under its final name if that was free,
/// otherwise in a temporary file next to the file that it will replace. Removed on drop unless it
/// was put in place.
struct StagedSecret {
    path: PathBuf,
    staged: PathBuf,
    is_final: bool,
}

impl StagedSecret {
    fn new(out: &SecretFile, text: &str) -> Result<Self, PoliciesError> {
        let failed = |source| PoliciesError::Write {
            path: out.path.clone(),
            source,
        };
        let (path, staged) = match fs::symlink_metadata(&out.path) {
            Ok(_) if !out.force => {
                return Err(PoliciesError::FileExists {
                    path: out.path.clone(),
                });
            }
            Ok(_) => {
                // Replace the target of a symbolic link, not the link.
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
            .open(&staged)
            .map_err(failed)?;
        let secret = Self {
            path,
            staged,
            is_final: false,
        };
        let on_disk = |file: &mut File| -> io::Result<()> {
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            sync_parent(&secret.staged)
        };
        on_disk(&mut file).map_err(failed)?;
        Ok(secret)
    }

    /// Moves the file into place.
    fn commit(mut self) -> Result<(), PoliciesError> {
        if self.staged == self.path {
            self.is_final = true;
            return Ok(());
        }
        let commit = fs::rename(&self.staged, &self.path).and_then(|()| sync_parent(&self.path));
        commit.map_err(|source| PoliciesError::Write {
            path: self.path.clone(),
            source,
        })?;
        self.is_final = true;
        Ok(())
    }
}

impl Drop for StagedSecret {
    fn drop(&mut self) {
        if !self.is_final {
            // Its key is invalid, or also in the database.
            let _ = fs::remove_file(&self.staged);
        }
    }
}
