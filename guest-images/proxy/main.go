// The reference proxy: many clients of a Unix socket share one serial port, a yamux stream each.
//
// It has the role that kata-proxy had, with its flags, its library (hashicorp/yamux, client side) and its ways: a
// stream is opened for each accepted connection, bytes are copied both ways, and as soon as one side ends, both
// are closed. The serial port's other end, an agent in the guest, is yamux's server side.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"

	"github.com/hashicorp/yamux"
)

func main() {
	listenSocket := flag.String("listen-socket", "", "Unix socket to accept clients on: unix:///PATH or /PATH")
	muxSocket := flag.String("mux-socket", "", "Unix socket that leads to the serial port: unix:///PATH or /PATH")
	sandbox := flag.String("sandbox", "", "what to name in messages")
	level := flag.String("log", "warn", "debug, info, warn or error: what to tell on stderr")
	flag.Parse()
	if *listenSocket == "" || *muxSocket == "" || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	log.SetFlags(log.LstdFlags | log.Lmicroseconds | log.Lmsgprefix)
	log.SetPrefix(strings.TrimSpace("proxy "+*sandbox) + ": ")
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	proxy, err := start(*muxSocket, *listenSocket, *level)
	if err != nil {
		log.Fatal(err)
	}
	select {
	case <-signals:
		proxy.stop()
	case err := <-proxy.failed:
		proxy.stop()
		log.Fatal(err)
	}
}

// proxy is one that has dialled its serial port and listens.
type proxy struct {
	listener net.Listener
	session  *yamux.Session
	failed   chan error
	talk     bool
}

// start dials first and listens then: who can connect to the proxy has a serial port behind it.
func start(muxSocket, listenSocket, level string) (*proxy, error) {
	config := yamux.DefaultConfig()
	// Nobody knows how long a VM is paused, so no answer in time is no reason to end anything.
	config.EnableKeepAlive = false
	config.StreamOpenTimeout = 0
	switch level {
	case "debug", "info", "warn", "warning":
		config.LogOutput = log.Writer()
	case "error", "fatal", "panic":
		config.LogOutput = io.Discard
	default:
		return nil, fmt.Errorf("-log %s: want debug, info, warn or error", level)
	}
	port, err := net.Dial("unix", path(muxSocket))
	if err != nil {
		return nil, fmt.Errorf("-mux-socket: %w", err)
	}
	session, err := yamux.Client(port, config)
	if err != nil {
		port.Close()
		return nil, err
	}
	listener, err := net.Listen("unix", path(listenSocket))
	if err != nil {
		session.Close()
		return nil, fmt.Errorf("-listen-socket: %w", err)
	}
	made := &proxy{listener, session, make(chan error, 2), level == "debug"}
	go made.accept()
	go func() {
		<-session.CloseChan()
		made.failed <- fmt.Errorf("the serial port's session has ended")
	}()
	return made, nil
}

// stop closes the listener, which removes its path, and ends every client's connection.
func (p *proxy) stop() {
	p.listener.Close()
	p.session.Close()
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			p.failed <- err
			return
		}
		stream, err := p.session.OpenStream()
		if err != nil {
			client.Close()
			p.failed <- err
			return
		}
		if p.talk {
			log.Printf("stream %d opened", stream.StreamID())
		}
		both := sync.OnceFunc(func() {
			client.Close()
			stream.Close()
		})
		go p.pass(client, stream, both)
		go p.pass(stream, client, both)
	}
}

// pass copies until one side ends, which is then the end of both.
func (p *proxy) pass(to io.Writer, from io.Reader, end func()) {
	if _, err := io.Copy(to, from); err != nil && p.talk {
		log.Print(err)
	}
	end()
}

// path takes what kata's runtime gives, unix:///PATH, and a plain /PATH.
func path(address string) string {
	return strings.TrimPrefix(address, "unix://")
}
