//! stub
#![allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkPath {
    Crossover,
    Lan,
}
#[derive(Debug)]
pub struct Link;
pub struct LinkWriter;
pub struct LinkReader;
pub struct Closer;
#[derive(Debug)]
pub struct Incoming {
    pub hello: Vec<u8>,
    pub link: Link,
}
impl Link {
    pub fn path(&self) -> LinkPath {
        LinkPath::Lan
    }
    pub fn closer(&self) -> std::io::Result<Closer> {
        Ok(Closer)
    }
    pub fn split(self) -> (LinkWriter, LinkReader) {
        (LinkWriter, LinkReader)
    }
}
impl LinkWriter {
    pub fn send(&mut self, _: &[u8]) -> Result<(), std::io::Error> {
        Ok(())
    }
}
impl LinkReader {
    pub fn receive(&mut self) -> Result<Vec<u8>, std::io::Error> {
        Ok(vec![])
    }
}
impl Closer {
    pub fn close(&self) {}
}
