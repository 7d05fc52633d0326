//! Links and addresses in one namespace, set by rtnetlink.

use std::net::IpAddr;
use std::os::fd::AsRawFd;

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoBridge, InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};
use tokio::runtime::{Builder, Runtime};

use super::BedError;
use clusterd::sys::ns::Namespace;

/// Index of `lo` in every namespace.
const LOOPBACK_INDEX: u32 = 1;

/// One end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Name of the interface.
    pub name: &'a str,
    /// Its ifindex.
    pub index: u32,
}

/// A route netlink connection into one namespace. Each call waits for the kernel's answer.
#[derive(Debug)]
pub struct Links {
    runtime: Runtime,
    handle: Handle,
}

impl Links {
    /// Connects, and sets `lo` up.
    ///
    /// # Errors
    /// No runtime, no socket, or the namespace can't be entered.
    pub fn open(namespace: &Namespace) -> Result<Links, BedError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        // The socket stays in the namespace in which it was opened, whoever uses it.
        let handle = namespace.run(|| {
            let _context = runtime.enter();
            let (connection, handle, _) = rtnetlink::new_connection()?;
            runtime.spawn(connection);
            Ok::<Handle, std::io::Error>(handle)
        })??;
        let links = Links { runtime, handle };
        links.set(LOOPBACK_INDEX, true)?;
        Ok(links)
    }

    /// Sets a link up or down.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn set(&self, index: u32, up: bool) -> Result<(), BedError> {
        let link = LinkUnspec::new_with_index(index);
        let link = if up { link.up() } else { link.down() };
        self.set_link(link.build())
    }

    /// Makes a bridge that is up. It forwards at once, runs no spanning tree and looks into no
    /// multicast; as a `hub` it also learns nothing, as a cable does.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn bridge(&self, bridge: End<'_>, hub: bool) -> Result<(), BedError> {
        let mut link = LinkBridge::new(bridge.name)
            .index(bridge.index)
            .append_info_data(InfoBridge::MulticastSnooping(false));
        if hub {
            link = link.ageing_time(0);
        }
        Ok(self.runtime.block_on(self.handle.link().add(link.build()).execute())?)
    }

    /// Makes a veth pair: the near end is a port of `bridge`, the far end is in another namespace. Both
    /// are down.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn veth(
        &self,
        near: End<'_>,
        bridge: u32,
        far: End<'_>,
        far_namespace: &Namespace,
    ) -> Result<(), BedError> {
        let far = LinkMessageBuilder::<LinkUnspec>::new()
            .name(far.name)
            .index(far.index)
            .append_extra_attribute(LinkAttribute::NetNsFd(far_namespace.as_raw_fd()))
            .build();
        let pair = LinkMessageBuilder::<LinkVeth>::new(near.name, "")
            .index(near.index)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
            .build();
        self.runtime.block_on(self.handle.link().add(pair).execute())?;
        self.set_link(LinkUnspec::new_with_index(near.index).controller(bridge).build())
    }

    /// Adds an address.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn add_address(&self, index: u32, ip: IpAddr, prefix: u8) -> Result<(), BedError> {
        Ok(self.runtime.block_on(self.handle.address().add(index, ip, prefix).execute())?)
    }

    /// Deletes an address of the given prefix length.
    ///
    /// # Errors
    /// What the kernel answers, for example that there is none.
    pub fn delete_address(&self, index: u32, ip: IpAddr, prefix: u8) -> Result<(), BedError> {
        let mut message = AddressMessage::default();
        message.header.family = match ip {
            IpAddr::V4(_) => netlink_packet_route::AddressFamily::Inet,
            IpAddr::V6(_) => netlink_packet_route::AddressFamily::Inet6,
        };
        message.header.index = index;
        message.header.prefix_len = prefix;
        message.attributes.push(AddressAttribute::Local(ip));
        Ok(self.runtime.block_on(self.handle.address().del(message).execute())?)
    }

    fn set_link(&self, message: LinkMessage) -> Result<(), BedError> {
        Ok(self.runtime.block_on(self.handle.link().set(message).execute())?)
    }
}
