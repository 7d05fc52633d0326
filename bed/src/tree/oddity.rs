//! What can be odd about a file, and the bytes that it takes.

/// Owner and group of what does not belong to root: ids that no package uses.
pub const FOREIGN: (u32, u32) = (54_321, 54_322);
/// How odd names begin.
pub const PREFIXES: [(Oddity, &[u8]); 4] = [
    (Oddity::NameNotUtf8, b"caf\xe9 \xff"),
    (Oddity::NameNewline, b"two\nlines "),
    (Oddity::NameDash, b"-rf "),
    (Oddity::NameShell, b" *?[$'\"`\\;& "),
];

/// What can be odd about a file, in the order in which it is done: a change of owner takes setuid bits
/// and capabilities away, so it comes first (chown(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// No bytes.
    Empty,
    /// A hole before its bytes.
    Hole,
    /// A name that is no UTF-8.
    NameNotUtf8,
    /// A name with a newline.
    NameNewline,
    /// A name like an option.
    NameDash,
    /// A name of 255 bytes.
    NameLong,
    /// A name with blanks, quotes, wildcards.
    NameShell,
    /// Another's.
    Foreign,
    /// Mode 4755.
    Setuid,
    /// Mode 2755.
    Setgid,
    /// Mode 1644.
    Sticky,
    /// Mode 0.
    Locked,
    /// A `user.` attribute.
    UserXattr,
    /// A `trusted.` attribute.
    TrustedXattr,
    /// A POSIX ACL.
    Acl,
    /// A file capability.
    Capability,
    /// More names of it, in other directories.
    HardLinks,
    /// A symlink to nothing beside it.
    SymlinkDangling,
    /// A symlink with an absolute target beside it.
    SymlinkAbsolute,
    /// A symlink to a directory beside it.
    SymlinkToDirectory,
    /// An empty directory beside it.
    EmptyDirectory,
    /// A setgid directory beside it, another's.
    SetgidDirectory,
    /// A directory with a default ACL beside it.
    AclDirectory,
    /// From before 1970.
    BeforeEpoch,
    /// From the future.
    Future,
}

impl Oddity {
    /// All of them.
    pub const ALL: [Oddity; 25] = [
        Oddity::Empty,
        Oddity::Hole,
        Oddity::NameNotUtf8,
        Oddity::NameNewline,
        Oddity::NameDash,
        Oddity::NameLong,
        Oddity::NameShell,
        Oddity::Foreign,
        Oddity::Setuid,
        Oddity::Setgid,
        Oddity::Sticky,
        Oddity::Locked,
        Oddity::UserXattr,
        Oddity::TrustedXattr,
        Oddity::Acl,
        Oddity::Capability,
        Oddity::HardLinks,
        Oddity::SymlinkDangling,
        Oddity::SymlinkAbsolute,
        Oddity::SymlinkToDirectory,
        Oddity::EmptyDirectory,
        Oddity::SetgidDirectory,
        Oddity::AclDirectory,
        Oddity::BeforeEpoch,
        Oddity::Future,
    ];
}

/// An ACL as the kernel stores it (linux/posix_acl_xattr.h): version 2, then tag, permissions and id.
pub fn acl_bytes() -> Vec<u8> {
    const NOBODY: u32 = u32::MAX;
    let entries: [(u16, u16, u32); 6] = [
        (0x01, 6, NOBODY),    // ACL_USER_OBJ
        (0x02, 7, FOREIGN.0), // ACL_USER
        (0x04, 4, NOBODY),    // ACL_GROUP_OBJ
        (0x08, 5, FOREIGN.1), // ACL_GROUP
        (0x10, 7, NOBODY),    // ACL_MASK
        (0x20, 0, NOBODY),    // ACL_OTHER
    ];
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&rights.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// CAP_NET_BIND_SERVICE, permitted and effective (linux/capability.h, `vfs_cap_data` version 2).
pub fn capability() -> Vec<u8> {
    const REVISION_2_EFFECTIVE: u32 = 0x0200_0001;
    const CAP_NET_BIND_SERVICE: u32 = 10;
    let words = [REVISION_2_EFFECTIVE, 1 << CAP_NET_BIND_SERVICE, 0, 0, 0];
    words.into_iter().flat_map(u32::to_le_bytes).collect()
}
