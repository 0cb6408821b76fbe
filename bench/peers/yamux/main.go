// A reverse tunnel over hashicorp's yamux, as frp and others build theirs, for measurements.
//
// `relay` listens for one device (TLS) and for visitors, and says both ports; `device ADDRESS
// TARGET` dials the relay and joins each stream with a connection to the target.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"os"
	"time"

	"github.com/hashicorp/yamux"
)

// frp's; with yamux's own 256 KiB a stream at 100 ms carries 12 Mbit/s.
const windowBytes = 6 << 20

type halfCloser interface {
	CloseWrite() error
}

func main() {
	log.SetFlags(0)
	if len(os.Args) == 2 && os.Args[1] == "relay" {
		relay()
	} else if len(os.Args) == 4 && os.Args[1] == "device" {
		device(os.Args[2], os.Args[3])
	} else {
		log.Fatal("usage: relay | device ADDRESS TARGET")
	}
}

func relay() {
	devices, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{
		Certificates: []tls.Certificate{certificate()},
	})
	check(err)
	visitors, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	fmt.Println(port(devices), port(visitors))
	connection, err := devices.Accept()
	check(err)
	session, err := yamux.Client(connection, configuration())
	check(err)
	for {
		visitor, err := visitors.Accept()
		check(err)
		go func() {
			stream, err := session.Open()
			if err != nil {
				visitor.Close()
				return
			}
			join(visitor, stream)
		}()
	}
}

func device(address, target string) {
	// The certificate was made a moment ago, for this measurement on one machine.
	connection, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	check(err)
	session, err := yamux.Server(connection, configuration())
	check(err)
	fmt.Println(os.Getpid())
	for {
		stream, err := session.Accept()
		check(err)
		go func() {
			behind, err := net.Dial("tcp", target)
			if err != nil {
				stream.Close()
				return
			}
			join(behind, stream)
		}()
	}
}

// join copies both ways, with half-close: a yamux stream's Close ends only its own direction.
func join(socket, stream net.Conn) {
	ended := make(chan struct{})
	go func() {
		io.Copy(stream, socket)
		stream.Close()
		close(ended)
	}()
	io.Copy(socket, stream)
	socket.(halfCloser).CloseWrite()
	<-ended
	socket.Close()
}

func configuration() *yamux.Config {
	made := yamux.DefaultConfig()
	made.MaxStreamWindowSize = windowBytes
	made.LogOutput = io.Discard
	return made
}

func port(listener net.Listener) int {
	return listener.Addr().(*net.TCPAddr).Port
}

func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	form := x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	made, err := x509.CreateCertificate(rand.Reader, &form, &form, &key.PublicKey, key)
	check(err)
	return tls.Certificate{Certificate: [][]byte{made}, PrivateKey: key}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
