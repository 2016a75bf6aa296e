package jetstream

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"example.com/hopper/spill"
)

// versionKey is the key of a stream's metadata that has the version of the
// format of its messages.
const (
	versionKey = "hopper.version"
	version    = "1"
)

const (
	minSlack  = 16 << 20 // bytes of a stream beyond the store's own limit
	fenceRoom = 64 << 10 // bytes of a stream that are left to fences
)

// slack is what a stream may hold beyond the store's limit: what a stop leaves
// there, and messages that could not be deleted yet.
func slack(limit int64) int64 { return max(limit/8, minSlack) }

// streamOf returns the stream that the store makes.
func streamOf(c Config) jetstream.StreamConfig {
	want := jetstream.StreamConfig{
		Name:         c.StreamName,
		Description:  "backlog of a hopper pipe",
		Subjects:     []string{"hopper." + c.StreamName},
		Storage:      c.Storage,
		Replicas:     c.Replicas,
		Retention:    jetstream.LimitsPolicy,
		Discard:      jetstream.DiscardNew,
		MaxBytes:     -1,
		MaxMsgs:      -1,
		MaxConsumers: -1,
		AllowDirect:  true,
		Metadata:     map[string]string{versionKey: version},
	}
	if c.MaxBytes > 0 {
		want.MaxBytes = c.MaxBytes + slack(c.MaxBytes)
	}
	return want
}

// makeStream makes the stream and the bucket unless they are there, and checks
// those that are.
func (s *store) makeStream(ctx context.Context) error {
	find := func(within context.Context) (*jetstream.StreamInfo, error) {
		return findOrMake(within, s.js, s.stream)
	}
	found, err := library(ctx, s.api.w, find)
	if err != nil {
		return fmt.Errorf("jetstream: use stream %s: %w", s.cfg.StreamName, err)
	}
	if err := refusal(found.Config, s.stream); err != nil {
		return err
	}
	if err := s.takeSettings(ctx, found.Config); err != nil {
		return err
	}

	_, err = library(ctx, s.api.w, func(within context.Context) (jetstream.KeyValue, error) {
		return findOrMakeBucket(within, s.js, bucketOf(s.cfg))
	})
	if err != nil {
		return fmt.Errorf("jetstream: use bucket %s: %w", bucketOf(s.cfg).Bucket, err)
	}
	return nil
}

func findOrMake(
	ctx context.Context, js jetstream.JetStream, want jetstream.StreamConfig,
) (*jetstream.StreamInfo, error) {
	st, err := js.Stream(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		st, err = js.CreateStream(ctx, want)
	}
	if err != nil {
		return nil, err
	}
	return st.CachedInfo(), nil
}

func findOrMakeBucket(
	ctx context.Context, js jetstream.JetStream, want jetstream.KeyValueConfig,
) (jetstream.KeyValue, error) {
	kv, err := js.KeyValue(ctx, want.Bucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		kv, err = js.CreateKeyValue(ctx, want)
	}
	return kv, err
}

// takeSettings goes by the settings of a stream that has been found.
func (s *store) takeSettings(ctx context.Context, found jetstream.StreamConfig) error {
	s.api.direct = found.AllowDirect
	s.maxMsgSize = int(found.MaxMsgSize)
	s.maxBytes = found.MaxBytes

	ours := found.Metadata[versionKey] != ""
	if want := s.stream.MaxBytes; ours && s.maxBytes > 0 && (want < 0 || want > s.maxBytes) {
		if err := s.raise(ctx, want); err != nil {
			s.cfg.Logger.Warn("jetstream: the stream's max_bytes could not be raised: "+
				"the backlog is limited by what it is", "stream", found.Name,
				"max_bytes", s.maxBytes, "error", err)
		}
	}

	limit := s.cfg.limit()
	if s.maxBytes > 0 {
		own := s.maxBytes - slack(s.maxBytes)
		if own < s.maxBytes/2 { // a small one
			own = s.maxBytes / 2
		}
		if limit < 0 || s.maxBytes < limit+fenceRoom {
			limit = own
		}
	}
	s.limit.Store(limit)
	s.index.setGranule(limit)
	return nil
}

// raise changes the stream's max_bytes. It is never lowered: the server would
// delete messages to reach it.
func (s *store) raise(ctx context.Context, bytes int64) error {
	_, err := library(ctx, s.api.w, func(within context.Context) (jetstream.Stream, error) {
		st, err := s.js.Stream(within, s.cfg.StreamName)
		if err != nil {
			return nil, err
		}
		cfg := st.CachedInfo().Config
		if cfg.MaxBytes <= 0 || bytes > 0 && bytes <= cfg.MaxBytes {
			return st, nil
		}
		cfg.MaxBytes = bytes
		return s.js.UpdateStream(within, cfg)
	})
	if err == nil {
		s.maxBytes = bytes
	}
	return err
}

// A setting is one of a stream's that must be so, or the backlog is not safe.
type setting struct {
	wrong bool
	is    string // what it is, and what comes of it
	do    string // about it
}

// refusal returns why a stream that has been found can't be used.
func refusal(found, want jetstream.StreamConfig) error {
	if v := found.Metadata[versionKey]; v != "" && v != version {
		return fmt.Errorf("%w: stream %s has version %s", spill.ErrVersion, found.Name, v)
	}

	var faults []string
	for _, f := range slices.Concat(losing(found, want), refusing(found)) {
		if f.wrong {
			faults = append(faults, f.is+": "+f.do)
		}
	}
	if len(faults) == 0 {
		return nil
	}
	return fmt.Errorf("jetstream: stream %s exists with settings that would lose items: %s; "+
		"or name another stream", found.Name, strings.Join(faults, "; "))
}

// losing returns the settings with which the server would delete items, or not
// keep them as asked.
func losing(found, want jetstream.StreamConfig) []setting {
	return []setting{
		{found.Discard != jetstream.DiscardNew,
			"discard is old, so that a full stream deletes its oldest messages",
			"set --discard new"},
		{found.Retention != jetstream.LimitsPolicy,
			fmt.Sprintf("retention is %v, so that messages are deleted once they are read",
				found.Retention),
			"retention can't be changed: delete the stream, and have it made anew"},
		{found.MaxAge > 0,
			fmt.Sprintf("max_age is %v, after which messages are deleted", found.MaxAge),
			"set --max-age 0"},
		{found.MaxMsgsPerSubject > 0,
			fmt.Sprintf("max_msgs_per_subject is %d, past which messages are deleted",
				found.MaxMsgsPerSubject),
			"set --max-msgs-per-subject=-1"},
		{found.MaxMsgs > 0,
			fmt.Sprintf("max_msgs is %d: a backlog is limited in bytes", found.MaxMsgs),
			"set --max-msgs=-1 and --max-bytes"},
		{!slices.Equal(found.Subjects, want.Subjects),
			fmt.Sprintf("its subjects are %q: none but %q may be there", found.Subjects,
				want.Subjects[0]),
			"set --subjects " + want.Subjects[0]},
		{want.Storage == jetstream.FileStorage && found.Storage != want.Storage,
			"storage is memory, where file is asked for",
			"pass MemoryStorage, or delete the stream"},
		{found.Replicas < want.Replicas,
			fmt.Sprintf("it has %d replicas, where %d are asked for",
				found.Replicas, want.Replicas),
			fmt.Sprintf("set --replicas %d", want.Replicas)},
		{found.PersistMode == jetstream.AsyncPersistMode,
			"persist_mode is async, so that messages are acknowledged before they are written",
			"delete the stream, and have it made anew"},
		{found.SubjectTransform != nil, "it transforms subjects", "remove subject_transform"},
		{found.AllowMsgCounter, "it holds counters", "delete the stream, and have it made anew"},
	}
}

// refusing returns the settings with which the server would not take items, or
// not give them back.
func refusing(found jetstream.StreamConfig) []setting {
	return []setting{
		{found.NoAck, "no_ack is set, so that nobody knows what is stored", "set --ack"},
		{found.Mirror != nil || len(found.Sources) > 0,
			"it mirrors or sources another stream", "remove mirror and sources"},
		{found.Sealed, "it is sealed, and takes no messages", "delete the stream"},
		{found.DenyPurge, "deny_purge is set, so that nothing can be given back",
			"delete the stream, and have it made anew"},
		{found.MaxMsgSize > 0 && found.MaxMsgSize < minMessageSize,
			fmt.Sprintf("max_msg_size is %d: a message takes up to %d bytes", found.MaxMsgSize,
				minMessageSize),
			"set --max-msg-size=-1"},
		{found.MaxConsumers == 0, "max_consumers is 0: the store needs one as it opens",
			"delete the stream, and have it made anew"},
	}
}
