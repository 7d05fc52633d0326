use std::net::TcpListener;
use std::sync::mpsc;

use super::*;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (one, listener.accept().unwrap().0)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_millis(300)
}

#[test]
fn who_takes_nothing_is_left() {
    let (writer, _reader) = pair();
    // More than both socket buffers can hold.
    let bytes = vec![0; 64 * 1024 * 1024];
    let error = write_all(&writer, &bytes, soon()).unwrap_err();
    assert!(matches!(error, LinkError::Stalled), "{error}");
}

#[test]
fn who_gives_a_byte_now_and_then_is_left() {
    let (mut slow, reader) = pair();
    let (stop, stopped) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // Each byte ends one wait of the reader; the deadline stands.
        while stopped.recv_timeout(Duration::from_millis(10)).is_err() {
            if slow.write_all(&[0]).is_err() {
                break;
            }
        }
    });
    let error = read_exact(&reader, &mut [0; 65_536], soon()).unwrap_err();
    assert!(matches!(error, LinkError::Stalled), "{error}");
    stop.send(()).unwrap();
    thread.join().unwrap();
}

#[test]
fn silence_before_a_frame_loses_nothing() {
    let (mut writer, reader) = pair();
    let error = await_frame(&reader, soon()).unwrap_err();
    assert!(matches!(error, LinkError::Silent), "{error}");
    writer.write_all(&[7, 8]).unwrap();
    await_frame(&reader, Instant::now() + Duration::from_secs(60)).unwrap();
    let mut bytes = [0; 2];
    read_exact(&reader, &mut bytes, Instant::now() + Duration::from_secs(60)).unwrap();
    assert_eq!(bytes, [7, 8]);
    drop(writer);
    let error = await_frame(&reader, Instant::now() + Duration::from_secs(60)).unwrap_err();
    assert!(matches!(error, LinkError::Closed), "{error}");
}
