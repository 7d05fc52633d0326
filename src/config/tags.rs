//! How groups are meant on the wire: by 16 bits of a hash of their names. A place in a list would mean another group
//! while the two nodes' config files differ.

use super::GroupIndex;

/// The tag of each group of one config, by its place there. 0 is no group's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupTags(Vec<u16>);

impl GroupTags {
    /// The tags of groups with these names, in this order.
    pub fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> GroupTags {
        GroupTags(names.into_iter().map(tag).collect())
    }

    /// What stands for a group; 0 for one that is not there.
    pub fn tag(&self, group: GroupIndex) -> u16 {
        self.0.get(usize::from(group.0)).copied().unwrap_or_default()
    }

    /// Which group here is meant by a tag, if any.
    pub fn group(&self, tag: u16) -> Option<GroupIndex> {
        let place = self.0.iter().position(|&known| known == tag)?;
        u8::try_from(place).ok().map(GroupIndex)
    }
}

/// The tag of a group of that name.
pub(super) fn tag(name: &str) -> u16 {
    let hash = blake3::derive_key("clusterd 1 group name on the wire", name.as_bytes());
    let [high, low, ..] = hash;
    u16::from_be_bytes([high, low]).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_means_the_name_wherever_it_stands() {
        let (here, there) = (GroupTags::of(["db", "web"]), GroupTags::of(["web"]));
        assert_eq!(here.group(there.tag(GroupIndex(0))), Some(GroupIndex(1)));
        assert_eq!(there.group(here.tag(GroupIndex(0))), None);
        assert_eq!(there.tag(GroupIndex(5)), 0);
        assert_eq!(there.group(0), None);
    }
}
