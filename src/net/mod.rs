//! The kernel's network: service addresses, carriers, and what the LAN says about addresses.
//!
//! [`thread`] is the heart's second thread: it alone speaks netlink, because any request can wait for
//! the kernel's rtnl lock. ([`clients`] is for the worker, and asks what takes another lock.) [`lan_watch`]
//! and [`echo`] live in the heart's own loop: ARP and ND are plain frames, ICMP is plain packets.
//!
//! | file | subject |
//! | --- | --- |
//! | `netlink` | rtnetlink messages, built and read; with `link_messages` all that knows their crate |
//! | `route_socket` | the socket for requests and the socket for changes |
//! | `addresses` | which group is claimed, and how that compares with what the kernel has |
//! | `carrier` | the interfaces that are watched: index, MAC, carrier |
//! | `link_messages` | rtnetlink messages about interfaces |
//! | `virtual_links` | the interfaces with a group's own MAC, made and deleted |
//! | `request` | what heart and netlink thread say to each other |
//! | `thread` | requests in, answers out; `news`: what follows from it; `release`: until nothing is left; `links`: the own interfaces; `ears`: multicast that they let through |
//! | `outbox` | the answers on their way |
//! | `guard` | what the guard does with addresses when the heart is gone |
//! | `arp`, `nd` | frames of ARP and neighbour discovery, built and read |
//! | `lan_watch` | asks and listens on the LAN |
//! | `clients` | clients' TCP connections: found, shared with the peer, told of a takeover |
//! | `echo` | asks hosts beyond the LAN |

pub mod addresses;
pub mod arp;
pub mod carrier;
pub mod clients;
pub mod echo;
pub mod guard;
pub mod lan_watch;
pub mod link_messages;
pub mod nd;
pub mod netlink;
mod outbox;
pub mod request;
pub mod route_socket;
pub mod thread;
mod virtual_links;

#[cfg(test)]
mod tests;

pub use echo::Echo;
pub use guard::{any_held, delete_all, deletions};
pub use lan_watch::{LanWatch, Seen};
pub use request::{GroupSetup, LinkInfo, NetReply, NetRequest, NetSetup};
pub use route_socket::{RouteSocket, interface_index};
pub use thread::{NetHandle, RequestRefused, start};
