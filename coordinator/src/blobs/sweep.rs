//! What lies about for too long: versions that were replaced, uploads that nobody finished.

use std::time::{Duration, SystemTime};

use super::{Blobs, Newest, newest, upload_of, version_of};
use crate::objects::Listed;

/// Versions stay this long after they were made: no call takes so long, so nobody makes a version on top
/// of one that is gone.
pub(super) const REPLACED_AGE_MIN: Duration = Duration::from_secs(900);
/// Uploads that nobody finished for this long.
pub(super) const ABANDONED_AGE_MIN: Duration = Duration::from_secs(86_400);

/// Names of one blob's objects that are of no use, in the order of their removal. `kept` is the upload
/// whose content counts.
fn litter(objects: &[Listed], kept: Option<u128>, now: SystemTime) -> Vec<&str> {
    let is_older = |object: &Listed, age| now.duration_since(object.made).is_ok_and(|since| since > age);
    let Some(Newest { number, is_deleted }) = newest(objects) else {
        return old_content(objects, None, now);
    };
    let mut names = old_content(objects, kept, now);
    let mut versions: Vec<_> =
        objects.iter().filter_map(|object| Some((version_of(object)?, object))).collect();
    versions.sort_unstable_by_key(|(number, _)| *number);
    let is_gone = |(_, object): &&(u32, &Listed)| is_older(object, REPLACED_AGE_MIN);
    let replaced = versions.iter().filter(|(version, _)| *version < number);
    names.extend(replaced.clone().filter(is_gone).map(|(_, object)| object.name.as_str()));
    // The end of a blob goes last: without it an older version would count again.
    let are_all_gone = replaced.clone().all(|version| is_gone(&version));
    if let Some((_, end)) = versions.last()
        && is_deleted
        && are_all_gone
        && is_older(end, REPLACED_AGE_MIN)
    {
        names.push(&end.name);
    }
    names
}

fn old_content(objects: &[Listed], kept: Option<u128>, now: SystemTime) -> Vec<&str> {
    let is_abandoned = |object: &&Listed| {
        upload_of(object).is_some_and(|upload| Some(upload) != kept)
            && now.duration_since(object.made).is_ok_and(|since| since > ABANDONED_AGE_MIN)
    };
    objects.iter().filter(is_abandoned).map(|object| object.name.as_str()).collect()
}

impl Blobs {
    /// Removes what is of no use in a blob's folder. What stays costs space only.
    pub(super) async fn sweep(&self, folder: &str, objects: &[Listed], now: SystemTime) {
        // Without litter there is nothing to read.
        if litter(objects, None, now).is_empty() {
            return;
        }
        let kept = match newest(objects) {
            Some(Newest { number, is_deleted: false }) => match self.version(folder, number).await {
                Ok(blob) => Some(blob.upload),
                Err(_) => return,
            },
            _ => None,
        };
        for name in litter(objects, kept, now) {
            if self.objects.remove(name).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000_000);

    fn object(name: &str, bytes: u64, age: u64) -> Listed {
        let made = SystemTime::UNIX_EPOCH + NOW - Duration::from_secs(age);
        Listed { name: format!("blobs/t/b/{name}"), bytes, made }
    }

    fn litter_of(objects: &[Listed], kept: Option<u128>) -> Vec<&str> {
        let names = litter(objects, kept, SystemTime::UNIX_EPOCH + NOW);
        names.into_iter().map(|name| name.strip_prefix("blobs/t/b/").unwrap()).collect()
    }

    #[test]
    fn the_newest_version_and_its_content_stay() {
        let content = format!("{:032x}.content", 7);
        let old = format!("{:032x}.content", 8);
        let fresh = format!("{:032x}.content", 9);
        let objects = [
            object("0000000001.json", 9, 2_000),
            object("0000000002.json", 9, 901),
            object("0000000003.json", 9, 899),
            object("0000000004.json", 9, 2_000),
            object(&content, 9, 200_000),
            object(&old, 9, 86_401),
            object(&fresh, 9, 86_399),
        ];
        let expected = [&old[..], "0000000001.json", "0000000002.json"];
        assert_eq!(litter_of(&objects, Some(7)), expected);
    }

    #[test]
    fn an_end_goes_after_all_that_it_ended() {
        let ended = [object("0000000001.json", 9, 2_000), object("0000000002.json", 0, 1_000)];
        assert_eq!(litter_of(&ended, None), ["0000000001.json", "0000000002.json"]);
        let young = [object("0000000001.json", 9, 800), object("0000000002.json", 0, 1_000)];
        assert!(litter_of(&young, None).is_empty(), "clocks may be wrong, and it would come back");
        let fresh = [object("0000000001.json", 9, 2_000), object("0000000002.json", 0, 100)];
        assert_eq!(litter_of(&fresh, None), ["0000000001.json"]);
        let never = [object(&format!("{:032x}.content", 8), 9, 86_401), object("other", 1, 1_000_000)];
        assert_eq!(litter_of(&never, None), [format!("{:032x}.content", 8)]);
    }
}
