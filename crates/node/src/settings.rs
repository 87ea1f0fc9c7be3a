//! What the person set, in one TOML file that they may also edit by hand.
//!
//! A missing file is the defaults. A file that cannot be read as settings is moved aside, never overwritten, and the run
//! goes on with the defaults, saying so. Keys that this version does not know are kept when the file is written again,
//! and named by `doctor`.

use std::{
    io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use network::MAX_DNS_NAMES;
use serde::{Deserialize, Serialize};

use crate::{
    chat::Place,
    data::{self, AtomicWrite},
    error::ErrorView,
    money::settings::{MoneySettings, sum},
    route::Preset,
};

/// Settings are a page of text; more is not a settings file, and is not read into memory.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Text can be made half as large and up to three times as large; beyond that the window has no usable layout.
const TEXT_SCALE: std::ops::RangeInclusive<f64> = 0.5..=3.0;

/// More listening addresses than this are a mistake: each one is a socket.
const MAX_LISTEN: usize = 16;

/// The most tokens one free answer for a stranger may have, whatever the file says: an evening of this processor.
const MAX_SERVE_OUT: u32 = 8192;

/// Percent of the device's time that others may have. None at all is what the switch is for.
const NETWORK_SHARE: std::ops::RangeInclusive<u8> = 1..=100;

/// Regions in one list: there are about 250 codes.
const MAX_REGIONS: usize = 300;

/// Characters of a region: a code of two letters, or three for a union.
const REGION: std::ops::RangeInclusive<usize> = 2..=3;

/// Characters of a name, as DNS has it.
const MAX_DNS_NAME: usize = 253;

/// How the window is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    /// As the desktop is.
    #[default]
    System,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

/// The person's settings, whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// How the window is drawn.
    pub theme: Theme,
    /// 1 is normal.
    pub text_scale: f64,
    /// The model of new chats; `None` is the starter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_model: Option<String>,
    /// The place of new chats.
    pub place: Place,
    /// Multiaddrs to listen on while the node is on.
    pub listen: Vec<String>,
    /// Look for peers in the local network and, while the node is on, tell them that it is here; both only where it listens beyond this
    /// computer.
    pub mdns: bool,
    /// Proxy for downloads; `None` is the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Models that others are answered with; empty is every ready one whose licence allows it.
    pub serve_models: Vec<String>,
    /// Answer strangers who do not pay.
    pub serve_free: bool,
    /// Most tokens of one answer for a stranger.
    pub serve_max_out: u32,
    /// Most of the time of what computes here that others may have, in percent. Beside the owner's own answers they get less.
    pub network_share: u8,
    /// What matters most when peers are compared.
    pub routing: Preset,
    /// The highest price per million tokens that is paid, of input or of output: base units of the token, in decimal
    /// digits, since they do not fit the numbers of TOML and JSON. `None` is any. [`MoneySettings::caps`] has others for single models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_cap: Option<String>,
    /// Only peers that claim one of these regions (ISO 3166 codes, or `EU`); empty is everywhere. Nothing proves a claim.
    pub regions_allow: Vec<String>,
    /// No peer that claims one of these.
    pub regions_deny: Vec<String>,
    /// Where this computer says that it is, in what it offers (an ISO 3166 code, or `EU`); `None` says nothing. Nobody can prove it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// A small share of small answers may come from peers that were never asked before.
    pub explore: bool,
    /// List what peers offer and no row here names. A chat asks for such a model only where it names it, whatever stands here.
    pub community_models: bool,
    /// Connect within the local network alone, also while serving.
    pub lan_only: bool,
    /// Find peers by those that were good before.
    pub saved_peers: bool,
    /// Find peers by these names, whose DNS records list addresses (`/dnsaddr/…`); at most [`MAX_DNS_NAMES`].
    pub dns_names: Vec<String>,
    /// Find peers by the public table of BitTorrent, which shows an observer of the line that this program runs.
    pub mainline: bool,
    /// Ask the router to forward a port while the node is on.
    pub upnp: bool,
    /// Pass on, within limits, what peers behind routers say to each other, when this computer is reachable from outside
    /// and the node is on.
    pub relay: bool,
    /// Threads that compute; `None` is one per core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// Closing the window keeps the node running; `None` asks once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_to_tray: Option<bool>,
    /// What is paid and asked.
    pub money: MoneySettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            theme: Theme::default(),
            text_scale: 1.0,
            default_model: None,
            place: Place::default(),
            // Any free port, on every interface, both transports: what a home router needs nothing configured for.
            listen: vec![
                "/ip4/0.0.0.0/udp/0/quic-v1".to_owned(),
                "/ip4/0.0.0.0/tcp/0".to_owned(),
            ],
            mdns: true,
            proxy: None,
            serve_models: Vec::new(),
            serve_free: true,
            serve_max_out: 512,
            network_share: 100,
            routing: Preset::default(),
            price_cap: None,
            regions_allow: Vec::new(),
            regions_deny: Vec::new(),
            region: None,
            explore: true,
            community_models: false,
            lan_only: false,
            saved_peers: true,
            dns_names: Vec::new(),
            mainline: true,
            upnp: true,
            relay: true,
            threads: None,
            close_to_tray: None,
            money: MoneySettings::default(),
        }
    }
}

/// Why settings cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file exists and cannot be read.
    #[error("the settings file {path} cannot be read")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is not a settings file.
    #[error("the settings file is not valid: {why}")]
    Corrupt {
        /// Where the settings belong.
        path: PathBuf,
        /// Where the bad file is now; `None` when it could not be moved and still lies at `path`.
        kept: Option<PathBuf>,
        /// What is wrong, with line and column where there is one.
        why: String,
    },
    /// A value is out of its range.
    #[error("{setting} {why}")]
    OutOfRange {
        /// The key, as it stands in the file.
        setting: &'static str,
        /// What it must be.
        why: String,
    },
    /// The file cannot be written.
    #[error("the settings cannot be written to {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl SettingsError {
    /// What the person can do about it.
    #[must_use]
    pub fn fix(&self) -> String {
        match self {
            Self::Unreadable { path, .. } => format!(
                "Give yourself the right to read {}, then start again.",
                path.display()
            ),
            Self::Corrupt {
                path,
                kept: Some(kept),
                ..
            } => format!(
                "The defaults are in use. Your file is kept as {}: correct it and rename it back to {}, or set things anew.",
                kept.display(),
                path.display()
            ),
            Self::Corrupt {
                path, kept: None, ..
            } => {
                format!(
                    "The defaults are in use. Correct {}, or move it away, then start again.",
                    path.display()
                )
            }
            Self::OutOfRange { .. } => "Choose another value.".to_owned(),
            Self::Write { path, .. } => {
                format!(
                    "Make {} writable, and check that the disk is not full.",
                    path.display()
                )
            }
        }
    }
}

impl Settings {
    /// How the engine is to share the device.
    #[must_use]
    pub(crate) fn sharing(&self) -> engine::Sharing {
        engine::Sharing {
            network_share: f32::from(self.network_share) / 100.0,
            ..engine::Sharing::default()
        }
    }

    /// The highest price that is paid where a model has none of its own, as a number. `None` where any is, and where the text is none.
    #[must_use]
    pub fn price_cap(&self) -> Option<u128> {
        self.price_cap.as_deref().and_then(sum)
    }

    /// The highest price that is paid for the model of this id: its own, else the one for all.
    #[must_use]
    pub fn price_cap_of(&self, model: &str) -> Option<u128> {
        let own = self.money.caps.get(model).and_then(|cap| sum(cap));
        own.or_else(|| self.price_cap())
    }

    /// Checks every value that has a range.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] names the first one that is outside.
    pub fn check(&self) -> Result<(), SettingsError> {
        let out_of_range = |setting, why: String| Err(SettingsError::OutOfRange { setting, why });
        if !TEXT_SCALE.contains(&self.text_scale) {
            return out_of_range(
                "text_scale",
                format!(
                    "must lie between {} and {}",
                    TEXT_SCALE.start(),
                    TEXT_SCALE.end()
                ),
            );
        }
        if self.listen.len() > MAX_LISTEN {
            return out_of_range(
                "listen",
                format!("must name at most {MAX_LISTEN} addresses"),
            );
        }
        if let Some(bad) = self.listen.iter().find(|address| !address.starts_with('/')) {
            return out_of_range(
                "listen",
                format!("has {bad:?}, which is not an address like /ip4/0.0.0.0/tcp/0"),
            );
        }
        if self.serve_max_out == 0 || self.serve_max_out > MAX_SERVE_OUT {
            return out_of_range(
                "serve_max_out",
                format!("must lie between 1 and {MAX_SERVE_OUT} tokens"),
            );
        }
        if !NETWORK_SHARE.contains(&self.network_share) {
            return out_of_range(
                "network_share",
                format!(
                    "must lie between {} and {} percent",
                    NETWORK_SHARE.start(),
                    NETWORK_SHARE.end()
                ),
            );
        }
        if self.price_cap.is_some() && self.price_cap().is_none() {
            return out_of_range(
                "price_cap",
                "must be a whole number of base units, in digits".to_owned(),
            );
        }
        let is_code = |region: &String| {
            REGION.contains(&region.len())
                && region.chars().all(|letter| letter.is_ascii_alphabetic())
        };
        if !self.region.iter().all(is_code) {
            return out_of_range("region", "must be a code like DE, US or EU".to_owned());
        }
        for (setting, regions) in [
            ("regions_allow", &self.regions_allow),
            ("regions_deny", &self.regions_deny),
        ] {
            if regions.len() > MAX_REGIONS || !regions.iter().all(is_code) {
                return out_of_range(
                    setting,
                    format!("must be at most {MAX_REGIONS} codes like DE, US or EU"),
                );
            }
        }
        if let Some((setting, why)) = self.money.problem() {
            return out_of_range(setting, why.to_owned());
        }
        let is_name = |name: &String| {
            (1..=MAX_DNS_NAME).contains(&name.len())
                && name
                    .chars()
                    .all(|mark| mark.is_ascii_alphanumeric() || ".-_".contains(mark))
        };
        if self.dns_names.len() > MAX_DNS_NAMES || !self.dns_names.iter().all(is_name) {
            return out_of_range(
                "dns_names",
                format!("must be at most {MAX_DNS_NAMES} names like peers.example.org"),
            );
        }
        let most_threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get) * 2;
        if self
            .threads
            .is_some_and(|threads| threads == 0 || threads > most_threads)
        {
            return out_of_range("threads", format!("must lie between 1 and {most_threads}"));
        }
        Ok(())
    }
}

/// The settings file, with what of it this version does not know.
#[derive(Debug, Clone)]
pub struct SettingsFile {
    path: PathBuf,
    unknown: toml::Table,
}

/// The file as people write it.
#[derive(Serialize, Deserialize)]
struct OnDisk {
    #[serde(flatten)]
    settings: Settings,
    // After the settings: it takes the keys that they left.
    #[serde(flatten)]
    unknown: toml::Table,
}

/// What reading the file gave: always settings to go on with, and what has to be said about it.
#[derive(Debug)]
pub struct Opened {
    /// The file, to write to.
    pub file: SettingsFile,
    /// What holds now.
    pub settings: Settings,
    /// Why the file was not used, when it was not.
    pub problem: Option<SettingsError>,
}

impl SettingsFile {
    /// Reads the settings. A bad file is kept aside and reported; the defaults hold then.
    #[must_use]
    pub fn open(path: &Path) -> Opened {
        let file = |unknown| SettingsFile {
            path: path.to_owned(),
            unknown,
        };
        let broken = |why: String| {
            let kept = data::keep_aside(path).ok();
            let problem = SettingsError::Corrupt {
                path: path.to_owned(),
                kept,
                why,
            };
            Opened {
                file: file(toml::Table::new()),
                settings: Settings::default(),
                problem: Some(problem),
            }
        };
        let text = match data::read_capped(path, MAX_FILE_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Opened {
                    file: file(toml::Table::new()),
                    settings: Settings::default(),
                    problem: None,
                };
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return broken(error.to_string());
            }
            Err(source) => {
                let problem = SettingsError::Unreadable {
                    path: path.to_owned(),
                    source,
                };
                return Opened {
                    file: file(toml::Table::new()),
                    settings: Settings::default(),
                    problem: Some(problem),
                };
            }
        };
        match toml::from_str::<OnDisk>(&text) {
            Ok(OnDisk { settings, unknown }) => match settings.check() {
                Ok(()) => Opened {
                    file: file(unknown),
                    settings,
                    problem: None,
                },
                Err(error) => broken(error.to_string()),
            },
            Err(error) => broken(error.to_string().trim().to_owned()),
        }
    }

    /// Writes the settings, and the unknown keys that were there.
    ///
    /// # Errors
    /// [`SettingsError::OutOfRange`] and nothing is written; [`SettingsError::Write`] and the old file stays.
    pub fn write(&self, settings: &Settings) -> Result<(), SettingsError> {
        settings.check()?;
        let write = |source| SettingsError::Write {
            path: self.path.clone(),
            source,
        };
        let on_disk = OnDisk {
            settings: settings.clone(),
            unknown: self.unknown.clone(),
        };
        let text = toml::to_string_pretty(&on_disk)
            .map_err(|error| write(io::Error::new(io::ErrorKind::InvalidData, error)))?;
        // A proxy's address may carry a password.
        data::write_atomically(&self.path, text.as_bytes(), AtomicWrite::Secret).map_err(write)
    }

    /// Keys of the file that this version does not know.
    #[must_use]
    pub fn unknown_keys(&self) -> Vec<String> {
        self.unknown.keys().cloned().collect()
    }
}

impl From<&SettingsError> for ErrorView {
    fn from(error: &SettingsError) -> Self {
        let code = match error {
            SettingsError::Unreadable { .. } => "settings_unreadable",
            SettingsError::Corrupt { .. } => "settings_corrupt",
            SettingsError::OutOfRange { .. } => "settings_out_of_range",
            SettingsError::Write { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "disk_full"
            }
            SettingsError::Write { .. } => "settings_not_written",
        };
        ErrorView::new(code, crate::error::sentence(error), Some(error.fix()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> (tempfile::TempDir, Opened) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        std::fs::write(&path, text).unwrap();
        let opened = SettingsFile::open(&path);
        (folder, opened)
    }

    #[test]
    fn missing_is_the_defaults_and_makes_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        let opened = SettingsFile::open(&path);
        assert_eq!(opened.settings, Settings::default());
        assert!(opened.problem.is_none());
        assert!(!path.exists());
    }

    #[test]
    fn a_partial_file_keeps_its_unknown_keys() {
        let (folder, opened) =
            open("mdns = false\nlisten = [\"/ip4/127.0.0.1/tcp/0\"]\nfuture = 7\n[later]\nx = 1\n");
        assert!(opened.problem.is_none());
        assert!(!opened.settings.mdns);
        assert_eq!(
            opened.settings.serve_max_out,
            Settings::default().serve_max_out
        );
        assert_eq!(opened.file.unknown_keys(), ["future", "later"]);
        opened
            .file
            .write(&Settings {
                serve_max_out: 64,
                ..opened.settings
            })
            .unwrap();
        let again = SettingsFile::open(&folder.path().join("settings.toml"));
        assert_eq!(again.settings.serve_max_out, 64);
        assert_eq!(again.file.unknown_keys(), ["future", "later"]);
    }

    #[test]
    fn a_bad_file_is_kept_aside() {
        for bad in [
            "mdns = 3",
            "{",
            "text_scale = 99.0",
            "threads = 0",
            "network_share = 0",
            "network_share = 101",
            "listen = [\"nonsense\"]",
            "theme = \"pink\"",
            "routing = \"best\"",
            "price_cap = \"-1\"",
            "price_cap = \"+1\"",
            "price_cap = \"\"",
            "price_cap = \"1e9\"",
            "regions_allow = [\"Germany\"]",
            "regions_deny = [\"\"]",
            "region = \"Germany\"",
            "region = \"D3\"",
            "dns_names = [\"no name\"]",
        ] {
            let (folder, opened) = open(bad);
            assert_eq!(opened.settings, Settings::default(), "{bad}");
            let Some(SettingsError::Corrupt {
                kept: Some(kept), ..
            }) = opened.problem
            else {
                panic!("{bad}: not reported");
            };
            assert_eq!(std::fs::read_to_string(&kept).unwrap(), bad);
            opened.file.write(&Settings::default()).unwrap();
            assert_eq!(std::fs::read_to_string(kept).unwrap(), bad);
            drop(folder);
        }
    }

    #[test]
    fn as_many_names_are_taken_as_are_looked_up() {
        let of = |count| Settings {
            dns_names: vec!["peers.example.org".to_owned(); count],
            ..Settings::default()
        };
        of(MAX_DNS_NAMES).check().unwrap();
        let error = of(MAX_DNS_NAMES + 1).check().unwrap_err();
        let named = format!("at most {MAX_DNS_NAMES} names");
        assert!(error.to_string().contains(&named), "{error}");
    }

    #[test]
    fn everything_survives_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        let settings = Settings {
            theme: Theme::Dark,
            text_scale: 1.25,
            default_model: Some("starter".to_owned()),
            place: Place::Automatic,
            proxy: Some("http://127.0.0.1:3128".to_owned()),
            serve_models: vec!["a".to_owned()],
            network_share: 30,
            threads: Some(1),
            close_to_tray: Some(true),
            routing: Preset::Fast,
            price_cap: Some(u128::MAX.to_string()),
            regions_allow: vec!["de".to_owned(), "EU".to_owned()],
            regions_deny: vec!["US".to_owned()],
            region: Some("de".to_owned()),
            explore: false,
            community_models: true,
            lan_only: true,
            mainline: false,
            dns_names: vec!["peers.example.org".to_owned()],
            money: MoneySettings {
                caps: [("cheap".to_owned(), "7".to_owned())].into(),
                ..MoneySettings::default()
            },
            ..Settings::default()
        };
        SettingsFile::open(&path).file.write(&settings).unwrap();
        assert_eq!(SettingsFile::open(&path).settings, settings);
        assert_eq!(settings.price_cap(), Some(u128::MAX));
        assert_eq!(settings.price_cap_of("cheap"), Some(7));
        assert_eq!(settings.price_cap_of("another"), Some(u128::MAX));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "a proxy may carry a password");
        }
    }

    #[test]
    fn a_file_of_an_earlier_version_keeps_what_it_says() {
        // As the version before peers were compared wrote it.
        let (_folder, opened) = open(
            "theme = \"dark\"\ntext_scale = 1.0\nplace = \"peer\"\nlisten = [\"/ip4/0.0.0.0/tcp/0\"]\nmdns = false\n\
             serve_models = []\nserve_free = true\nserve_max_out = 64\n",
        );
        assert!(opened.problem.is_none());
        let expected = Settings {
            theme: Theme::Dark,
            place: Place::Peer,
            listen: vec!["/ip4/0.0.0.0/tcp/0".to_owned()],
            mdns: false,
            serve_max_out: 64,
            ..Settings::default()
        };
        assert_eq!(opened.settings, expected);
    }
}
