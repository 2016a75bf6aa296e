package jetstream

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"example.com/hopper/spill"
)

// Defaults.
const (
	DefaultMessageSize = 512 << 10 // bytes
	DefaultLease       = 15 * time.Second
	DefaultWait        = 30 * time.Second
)

const (
	minMessageSize = 80 << 10 // bytes: the longest chunk, and the headers
	headerRoom     = 1 << 10  // bytes of a message that are left to its headers
	minLease       = 100 * time.Millisecond
)

// Config says where and how a store keeps its chunks.
type Config struct {
	// StreamName names the stream, which is made if it does not exist. It must
	// be the store's own: each pipe needs one. The subject of its messages is
	// "hopper." and the name; the lease is kept in the KV bucket "hopper_" and
	// the name. A name has letters, digits, '-' and '_'.
	StreamName string

	// MaxBytes limits the backlog, in bytes. 0 or less: no limit but those of
	// the stream and the account.
	MaxBytes int64

	// Replicas is how many servers keep each message: 1, 3 or 5. 0 means 1.
	Replicas int

	// Storage says where the servers keep the messages. The zero value is
	// [jetstream.FileStorage].
	Storage jetstream.StorageType

	// MessageSize limits a message, in bytes. 0 means DefaultMessageSize. It is
	// never more than the server's max_payload, nor less than 80 KiB.
	MessageSize int

	// Lease is how long the store stays this process's own after it was last
	// heard of. 0 means DefaultLease. It is renewed three times as often.
	Lease time.Duration

	// Wait is how long Open waits for a server that does not answer, and for as
	// many servers as Replicas asks for. 0 means DefaultWait, less than 0 that
	// Open fails at the first error.
	Wait time.Duration

	// Logger gets what no error can say. Nil: nobody does.
	Logger *slog.Logger
}

// New returns a store on a stream, to be opened by a log or a pipe. It asks
// nothing of the server. The error says what is wrong with cfg.
//
// The store leaves the connection open. While it is in use nobody else may
// close the connection.
func New(js jetstream.JetStream, cfg Config) (spill.Store, error) {
	if js == nil {
		return nil, errors.New("jetstream: New(nil): pass what jetstream.New returns")
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	cfg.setDefaults()

	s := &store{js: js, cfg: cfg, holder: rand.Text()}
	s.stream = streamOf(cfg)
	s.api = api{prefix: prefixOf(js.Options()), stream: cfg.StreamName}
	s.lease = newLease(&s.api, cfg, s.holder)
	s.limit.Store(cfg.limit())
	return s, nil
}

// check reports what makes no sense.
func (c *Config) check() error {
	switch {
	case c.StreamName == "":
		return errors.New("jetstream: StreamName is empty: name the stream of the backlog")
	case strings.Trim(c.StreamName, nameChars) != "":
		return fmt.Errorf("jetstream: StreamName %q: use letters, digits, '-' and '_' only",
			c.StreamName)
	case c.Replicas < 0 || c.Replicas > 5:
		return fmt.Errorf("jetstream: Replicas %d: use 1, 3 or 5", c.Replicas)
	case c.Storage != jetstream.FileStorage && c.Storage != jetstream.MemoryStorage:
		return fmt.Errorf("jetstream: Storage %d: use FileStorage or MemoryStorage", c.Storage)
	case c.MessageSize != 0 && c.MessageSize < minMessageSize:
		return fmt.Errorf("jetstream: MessageSize %d: a message takes %d bytes at least, for a "+
			"chunk and its headers", c.MessageSize, minMessageSize)
	case c.Lease != 0 && c.Lease < minLease:
		return fmt.Errorf("jetstream: Lease %v: use %v or more", c.Lease, minLease)
	}
	return nil
}

const nameChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

func (c *Config) setDefaults() {
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.MessageSize == 0 {
		c.MessageSize = DefaultMessageSize
	}
	if c.Lease == 0 {
		c.Lease = DefaultLease
	}
	if c.Wait == 0 {
		c.Wait = DefaultWait
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
}

// limit returns MaxBytes as [spill.Usage] has it.
func (c *Config) limit() int64 {
	if c.MaxBytes <= 0 {
		return -1
	}
	return c.MaxBytes
}

// prefixOf returns what the subjects of the server's API begin with.
func prefixOf(o jetstream.JetStreamOptions) string {
	switch {
	case o.Domain != "":
		return "$JS." + o.Domain + ".API."
	case o.APIPrefix != "":
		return strings.TrimSuffix(o.APIPrefix, ".") + "."
	}
	return jetstream.DefaultAPIPrefix
}
