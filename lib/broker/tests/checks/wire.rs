//! Kafka's protocol by hand: one request, one answer, in a version of choice.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

use super::PATIENCE;

/// A connection to a broker, whichever it is.
pub struct Wire {
    stream: TcpStream,
}

impl Wire {
    pub fn connect(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// Sends a request and reads its answer.
    pub fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(version, request);
        self.receive::<R>(version)
    }

    /// Sends a request; the answer can be read later.
    pub fn send<R: Request>(&mut self, version: i16, request: &R) {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(7)
            .with_client_id(Some(StrBytes::from_static_str("checks")));
        let mut out = BytesMut::new();
        out.put_i32(0);
        header.encode(&mut out, R::header_version(version)).unwrap();
        request.encode(&mut out, version).unwrap();
        let length = (out.len() - 4) as i32;
        out[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&out).unwrap();
    }

    /// Reads the answer to a request that was sent before.
    pub fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut raw = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut raw).unwrap();
        let mut raw = Bytes::from(raw);
        let header_version = R::Response::header_version(version);
        let header = ResponseHeader::decode(&mut raw, header_version).unwrap();
        assert_eq!(header.correlation_id, 7);
        let answer = R::Response::decode(&mut raw, version).unwrap();
        assert!(!raw.has_remaining(), "the answer has a rest");
        answer
    }
}
