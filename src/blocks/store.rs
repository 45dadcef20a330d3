//! The folder of found blocks. One file per block, containing its hex: `bitcoin-cli -stdin
//! submitblock` can read it directly.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tracing::warn;

use crate::work::Hash256;

/// `data_dir/blocks`.
#[derive(Clone, Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

/// A block that was undecided when gatewayd ended.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) height: u32,
    pub(super) hash: Hash256,
    pub(super) hex: String,
}

impl Store {
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { dir: data_dir.join("blocks") }
    }

    /// Creates the folder and checks that it can be written to.
    pub(super) fn prepare(&self) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        // Best effort: a file system may not support owners.
        let _ = fs::set_permissions(&self.dir, fs::Permissions::from_mode(OWNER_ONLY));
        let probe = self.dir.join(".writable");
        File::create(&probe)?;
        fs::remove_file(probe)
    }

    /// Writes the block so that it survives a crash of the machine.
    pub(super) fn save(&self, height: u32, hash: &Hash256, hex: &str) -> io::Result<()> {
        // It may have failed at the start.
        fs::create_dir_all(&self.dir)?;
        let unfinished = self.path(height, hash, ".tmp");
        if let Err(error) = write(&unfinished, hex) {
            // Half a block is useless, and a full disk needs the space.
            let _ = fs::remove_file(unfinished);
            return Err(error);
        }
        fs::rename(&unfinished, self.path(height, hash, ""))?;
        // The directory entry must survive a crash too.
        File::open(&self.dir)?.sync_all()
    }

    /// Records in the file's name what became of the block, and deletes the oldest decided ones.
    pub(super) fn finish(&self, height: u32, hash: &Hash256, accepted: bool) -> io::Result<()> {
        let ending = if accepted { ACCEPTED } else { REJECTED };
        fs::rename(self.path(height, hash, ""), self.path(height, hash, ending))?;
        self.prune()
    }

    /// Blocks that no node has confirmed yet, lowest first. Other files are left alone.
    pub(super) fn pending(&self) -> io::Result<Vec<Pending>> {
        let mut pending = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            let Some((height, hash)) = path.file_name().and_then(|name| parse(name.to_str()?))
            else {
                continue;
            };
            match read(&path, &hash) {
                Ok(hex) => pending.push(Pending { height, hash, hex }),
                // One bad file must not keep the others from the nodes.
                Err(error) => {
                    warn!(file = %path.display(), %error, "this file is not a found block, so it \
                                                           is left alone")
                }
            }
        }
        pending.sort_by_key(|block| block.height);
        Ok(pending)
    }

    fn prune(&self) -> io::Result<()> {
        let entries = fs::read_dir(&self.dir)?.filter_map(Result::ok);
        let mut ended: Vec<_> = entries
            .map(|entry| entry.path())
            .filter(|path| {
                let name = path.to_string_lossy();
                name.ends_with(ACCEPTED) || name.ends_with(REJECTED)
            })
            .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
            .collect();
        ended.sort();
        let spare = ended.len().saturating_sub(KEPT);
        ended[..spare].iter().try_for_each(|(_, path)| fs::remove_file(path))
    }

    fn path(&self, height: u32, hash: &Hash256, ending: &str) -> PathBuf {
        self.dir.join(format!("{height}-{hash}.hex{ending}"))
    }
}

fn write(path: &Path, hex: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(hex.as_bytes())?;
    file.sync_all()
}

/// The hex in a file, if its header has the hash in the file's name.
fn read(path: &Path, hash: &Hash256) -> io::Result<String> {
    if fs::metadata(path)?.len() > HEX_LEN_MAX {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let hex = fs::read_to_string(path)?.trim().to_owned();
    let mut header = [0; 80];
    let is_block = hex.len() > 160
        && hex.bytes().all(|byte| byte.is_ascii_hexdigit())
        && faster_hex::hex_decode(&hex.as_bytes()[..160], &mut header).is_ok()
        && Hash256::sha256d(&header) == *hash;
    if is_block { Ok(hex) } else { Err(io::ErrorKind::InvalidData.into()) }
}

/// Height and hash of a pending block's file name.
fn parse(name: &str) -> Option<(u32, Hash256)> {
    let (height, hash) = name.strip_suffix(".hex")?.split_once('-')?;
    Some((height.parse().ok()?, Hash256::from_display_hex(hash)?))
}

const OWNER_ONLY: u32 = 0o700;
const ACCEPTED: &str = ".accepted";
const REJECTED: &str = ".rejected";
/// A 4 MB block is 8 MB of hex: at most 400 MB, and for most miners a lifetime's blocks.
const KEPT: usize = 50;
/// Twice the largest block; anything larger is not a block.
const HEX_LEN_MAX: u64 = 16_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_survive_until_their_fate_is_known() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        let (a, b) = (Hash256::sha256d(&[0xAA; 80]), Hash256::sha256d(&[0xBB; 80]));
        store.save(8, &a, &"aa".repeat(81)).unwrap();
        store.save(7, &b, &"bb".repeat(81)).unwrap();
        fs::write(dir.path().join("blocks/readme.txt"), "not a block").unwrap();
        let heights: Vec<_> = store.pending().unwrap().iter().map(|it| it.height).collect();
        assert_eq!(heights, [7, 8]);
        store.finish(7, &b, true).unwrap();
        let pending = store.pending().unwrap();
        assert_eq!(pending.len(), 1);
        assert_eq!((pending[0].hash, pending[0].hex.as_str()), (a, &*"aa".repeat(81)));
    }

    #[test]
    fn ended_blocks_do_not_fill_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        store.prepare().unwrap();
        for height in 0..60_u32 {
            let hash = Hash256([height.to_le_bytes()[0]; 32]);
            store.save(height, &hash, "aa").unwrap();
            store.finish(height, &hash, height % 2 == 0).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path().join("blocks")).unwrap().count(), KEPT);
    }
}
