package zoo

import (
	"errors"
	"net"
	"time"

	"cloud.google.com/go/civil"
	"github.com/IBM/sarama"
	"github.com/Masterminds/semver/v3"
	"github.com/RoaringBitmap/roaring/v2"
	"github.com/aws/aws-lambda-go/events"
	"github.com/btcsuite/btcd/chaincfg/chainhash"
	"github.com/btcsuite/btcd/wire"
	"github.com/bwmarrin/discordgo"
	"github.com/fsnotify/fsnotify"
	"github.com/go-openapi/strfmt"
	"github.com/golang-jwt/jwt/v5"
	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/uuid"
	"github.com/guregu/null/v6"
	"github.com/hashicorp/raft"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/lib/pq"
	"github.com/miekg/dns"
	"github.com/nats-io/nats.go"
	"github.com/nsqio/go-nsq"
	"github.com/oklog/ulid/v2"
	ocidigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/paulmach/orb"
	"github.com/paulmach/orb/geojson"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/model"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/ksuid"
	"github.com/shopspring/decimal"
	"github.com/sirupsen/logrus"
	"github.com/slack-go/slack"
	raftpb "go.etcd.io/raft/v3/raftpb"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/trace"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	logspb "go.opentelemetry.io/proto/otlp/logs/v1"
	metricspb "go.opentelemetry.io/proto/otlp/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/mod/module"
	"golang.org/x/oauth2"
	"golang.org/x/text/language"
	"gonum.org/v1/gonum/mat"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"gopkg.in/yaml.v3"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
)

func pod() *corev1.Pod {
	return &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"},
		ObjectMeta: metav1.ObjectMeta{Name: "web-0", Namespace: "shop", UID: "u", Labels: map[string]string{"app": "web"}, CreationTimestamp: metav1.NewTime(at), OwnerReferences: []metav1.OwnerReference{{Name: "web", Controller: ref(true)}}},
		Spec: corev1.PodSpec{NodeName: "node", Containers: []corev1.Container{{
			Name: "web", Image: "web:1", Ports: []corev1.ContainerPort{{ContainerPort: 80}},
			Resources:     corev1.ResourceRequirements{Limits: corev1.ResourceList{"cpu": resource.MustParse("100m"), "memory": resource.MustParse("64Mi")}},
			LivenessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: intstr.FromString("http")}}},
		}}, Tolerations: []corev1.Toleration{{Key: "a", TolerationSeconds: ref(int64(5))}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1", Conditions: []corev1.PodCondition{{Type: corev1.PodReady, LastTransitionTime: metav1.NewTime(at)}}},
	}
}

func span() *tracepb.Span {
	return &tracepb.Span{
		TraceId: make([]byte, 16), SpanId: make([]byte, 8), Name: "GET", Kind: tracepb.Span_SPAN_KIND_SERVER, StartTimeUnixNano: 5,
		Attributes: []*commonpb.KeyValue{{Key: "a", Value: &commonpb.AnyValue{Value: &commonpb.AnyValue_StringValue{StringValue: "b"}}}},
		Events:     []*tracepb.Span_Event{{Name: "e"}},
	}
}

func thirdParty() []species {
	bitmap := roaring.BitmapOf(1, 2, 3, 100_000)
	bitmap.AddRange(1<<20, 1<<21)
	var question dns.Msg
	question.SetQuestion("example.com.", dns.TypeA)
	question.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: "example.com.", Ttl: 5}, A: net.IP{1, 2, 3, 4}}, &dns.TXT{Txt: []string{"a"}}}
	packet := gopacket.NewPacket([]byte{1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 8, 0, 0x45}, layers.LayerTypeEthernet, gopacket.Default)
	var document yaml.Node
	if err := yaml.Unmarshal([]byte("a: &x [1, 2]\nb: *x\n"), &document); err != nil {
		panic(err)
	}
	anyOf := must(anypb.New(wrapperspb.String("a")))
	structure := must(structpb.NewStruct(map[string]any{"a": 1.0, "b": []any{"c", nil, true}}))
	member := must(baggage.NewMember("a", "b"))
	tx := wire.NewMsgTx(2)
	tx.AddTxIn(wire.NewTxIn(&wire.OutPoint{Index: 1}, []byte{1}, [][]byte{{2}}))
	tx.AddTxOut(wire.NewTxOut(5, []byte{3}))
	spanContext := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}, TraceFlags: 1})

	return []species{
		// Kubernetes
		copied(pod()),
		copied(*pod()),
		copied(corev1.PodList{Items: []corev1.Pod{*pod()}}),
		copied(corev1.Container{Name: "a"}),
		copied(&corev1.Event{Reason: "a", EventTime: metav1.NewMicroTime(at), LastTimestamp: metav1.NewTime(at)}),
		copied(&corev1.Secret{Data: map[string][]byte{"a": {1}}}),
		copied(&corev1.ConfigMap{Data: map[string]string{"a": "b"}}),
		copied(&corev1.Node{Status: corev1.NodeStatus{Capacity: corev1.ResourceList{"cpu": resource.MustParse("4")}}}),
		copied(&corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{TargetPort: intstr.FromInt32(80)}}}}),
		copied(&appsv1.Deployment{Spec: appsv1.DeploymentSpec{Replicas: ref(int32(3)), Template: corev1.PodTemplateSpec{Spec: pod().Spec}}}),
		copied(&batchv1.CronJob{Spec: batchv1.CronJobSpec{Schedule: "* * * * *"}}),
		copied(&networkingv1.Ingress{Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{Host: "a"}}}}),
		copied(&rbacv1.Role{Rules: []rbacv1.PolicyRule{{Verbs: []string{"get"}}}}),
		copied(metav1.NewTime(at)),
		copied(metav1.Duration{Duration: time.Second}),
		copied(metav1.LabelSelector{MatchLabels: map[string]string{"a": "b"}}),
		copied(metav1.Status{Code: 404, Details: &metav1.StatusDetails{Name: "a"}}),
		copied(resource.MustParse("1500m"), resource.MustParse("1e30")),
		copied(intstr.FromString("a")),
		copied(types.NamespacedName{Namespace: "a", Name: "b"}),
		copied(types.UID("a")),
		copied(schema.GroupVersionKind{Kind: "Pod"}),
		copied(watch.Event{Type: watch.Added, Object: pod()}, watch.Event{Type: watch.Error, Object: &metav1.Status{Code: 410}}),
		copied[runtime.Object](pod(), &corev1.Secret{}),
		copied(&unstructured.Unstructured{Object: map[string]any{"a": map[string]any{"b": int64(1)}}}),
		copied(runtime.RawExtension{Raw: []byte("{}")}),
		copied(labels.Set{"a": "b"}),
		copied(fields.Set{"a": "b"}),
		copied(apierrors.NewNotFound(schema.GroupResource{Resource: "pods"}, "a")),
		// protobuf and what is made of it
		copied(timestamppb.New(at)),
		copied(durationpb.New(time.Second)),
		copied(anyOf),
		copied(structure),
		copied(structpb.NewStringValue("a")),
		copied(wrapperspb.Int64(5)),
		copied[proto.Message](timestamppb.New(at), anyOf),
		copied(&descriptorpb.FileDescriptorProto{Name: ref("a"), MessageType: []*descriptorpb.DescriptorProto{{Name: ref("M")}}}),
		copied(status.New(codes.NotFound, "a")),
		copied(codes.NotFound),
		copied(metadata.Pairs("a", "b")),
		copied(status.New(codes.Internal, "a").Proto()),
		copied(span()),
		copied(&tracepb.ResourceSpans{ScopeSpans: []*tracepb.ScopeSpans{{Spans: []*tracepb.Span{span(), span()}}}}),
		copied(&logspb.LogRecord{SeverityText: "INFO"}),
		copied(&metricspb.Metric{Name: "a", Data: &metricspb.Metric_Gauge{Gauge: &metricspb.Gauge{DataPoints: []*metricspb.NumberDataPoint{{TimeUnixNano: 1}}}}}),
		copied(&dto.MetricFamily{Name: ref("a"), Metric: []*dto.Metric{{Gauge: &dto.Gauge{Value: ref(1.5)}}}}),
		copied([]*dto.Metric{{Counter: &dto.Counter{Value: ref(2.0)}}}),
		// telemetry
		copied(attribute.String("a", "b"), attribute.Int("n", 1), attribute.Bool("c", true)),
		copied(attribute.BoolSlice("a", []bool{true})),
		copied(spanContext),
		copied(trace.TraceID{1}),
		copied(trace.Link{SpanContext: spanContext}),
		copied(member),
		copied(model.Metric{"__name__": "a"}),
		copied(&model.Sample{Metric: model.Metric{"a": "b"}, Value: 1.5, Timestamp: 5}),
		copied(model.Matrix{{Values: []model.SamplePair{{Value: 1}}}}),
		copied(model.Alert{Labels: model.LabelSet{"a": "b"}, StartsAt: at}),
		copied(zap.String("a", "b"), zap.Int("n", 1), zap.Duration("d", time.Second), zap.Error(errors.New("e"))),
		copied(zapcore.Entry{Message: "a", Time: at}),
		copied(zapcore.InfoLevel),
		parked(zap.NewNop()),
		parked(zap.NewAtomicLevel()),
		copied(logrus.Fields{"a": 1}),
		copied(&logrus.Entry{Message: "a", Time: at, Data: logrus.Fields{"b": 2.5}}),
		parked(logrus.WithField("a", 1)),
		copied(logrus.WarnLevel),
		copied(zerolog.InfoLevel),
		// queues
		copied(kafka.Message{Topic: "a", Key: []byte("k"), Value: []byte("v"), Headers: []kafka.Header{{Key: "h", Value: []byte("x")}}, Time: at}),
		copied(kafka.Partition{Topic: "a", Leader: kafka.Broker{Host: "b"}}),
		copied(kafka.Error(3)),
		copied(&sarama.ConsumerMessage{Topic: "a", Value: []byte("v"), Timestamp: at, Headers: []*sarama.RecordHeader{{Key: []byte("a")}}}),
		copied(&sarama.ProducerMessage{Topic: "a", Key: sarama.StringEncoder("k"), Value: sarama.ByteEncoder("v"), Metadata: 5}),
		copied(&sarama.ProducerError{Msg: &sarama.ProducerMessage{Topic: "a"}, Err: sarama.ErrOutOfBrokers}),
		copied(sarama.ErrOutOfBrokers),
		copied(nats.Header{"a": {"b"}}),
		copied(&nats.Msg{Subject: "a", Data: []byte("b"), Header: nats.Header{"c": {"d"}}}),
		copied(nats.StreamConfig{Name: "a", MaxAge: time.Hour}),
		copied(nats.MsgMetadata{Timestamp: at}),
		copied(nats.PubAck{Stream: "a"}),
		copied(amqp.Delivery{Headers: amqp.Table{"a": int32(1), "b": amqp.Table{"c": at}}, Body: []byte("x"), Timestamp: at}),
		copied(amqp.Publishing{Body: []byte("x")}),
		copied(&amqp.Error{Code: 404, Reason: "a"}),
		copied(amqp.Confirmation{DeliveryTag: 1, Ack: true}),
		copied(amqp.Return{ReplyText: "a"}),
		copied(&redis.Message{Channel: "a", Payload: "b"}),
		copied(redis.XMessage{ID: "1-0", Values: map[string]any{"a": "b"}}),
		copied(redis.Z{Score: 1.5, Member: "a"}),
		copied(&nsq.Message{ID: nsq.MessageID{1}, Body: []byte("a")}),
		copied(events.SQSMessage{MessageId: "a", Attributes: map[string]string{"b": "c"}}),
		copied(events.S3Event{Records: []events.S3EventRecord{{EventTime: at, S3: events.S3Entity{Object: events.S3Object{Key: "a"}}}}}),
		copied(events.APIGatewayProxyRequest{Headers: map[string]string{"a": "b"}, Body: "x"}),
		copied(events.DynamoDBEventRecord{Change: events.DynamoDBStreamRecord{Keys: map[string]events.DynamoDBAttributeValue{"a": events.NewStringAttribute("b"), "n": events.NewNumberAttribute("1")}}}),
		copied(events.KinesisEventRecord{EventID: "a"}),
		copied(raft.Log{Index: 1, Data: []byte("a"), AppendedAt: at}),
		copied(raft.Configuration{Servers: []raft.Server{{ID: "a"}}}),
		copied(raftpb.Message{Entries: []raftpb.Entry{{Data: []byte("a")}}}),
		copied(raftpb.HardState{Term: 1}),
		copied(fsnotify.Event{Name: "a", Op: fsnotify.Write}),
		parked(raft.RPC{Command: 1, RespChan: make(chan<- raft.RPCResponse)}),
		copied(raft.RPCResponse{Response: "a", Error: raft.ErrLeader}),
		// identifiers, numbers, times
		copied(uuid.New()),
		copied(uuid.NullUUID{Valid: true}),
		copied(ulid.Make()),
		copied(ksuid.New()),
		copied(decimal.RequireFromString("1.25"), decimal.Decimal{}),
		copied(decimal.NullDecimal{Valid: true}),
		copied(civil.Date{Year: 2026, Month: 1, Day: 2}),
		copied(civil.DateTime{Time: civil.Time{Hour: 1}}),
		copied(strfmt.DateTime(at)),
		copied(strfmt.UUID("a")),
		copied(strfmt.Duration(1)),
		copied(semver.MustParse("1.2.3-rc.1")),
		copied(module.Version{Path: "a", Version: "v1"}),
		copied(language.MustParse("de-CH")),
		copied(null.StringFrom("a")),
		copied(null.TimeFrom(at)),
		copied(mat.NewDense(2, 2, []float64{1, 2, 3, 4}), &mat.Dense{}),
		copied(mat.NewVecDense(1, []float64{1})),
		copied(bitmap),
		// databases
		copied(pgtype.Timestamptz{Time: at, Valid: true}),
		copied(pgtype.Numeric{Valid: true, Exp: 1}),
		copied(pgtype.UUID{Valid: true}),
		copied(pgtype.Text{String: "a", Valid: true}),
		copied(&pgconn.PgError{Code: "42"}),
		copied(&pgconn.Notification{Channel: "a"}),
		copied(pq.NullTime{Time: at}),
		copied(&pq.Error{Code: "42"}),
		copied(pq.StringArray{"a"}),
		copied(&pq.Notification{Channel: "a"}),
		copied(bson.NewObjectID()),
		copied(bson.D{{Key: "a", Value: bson.A{1, "b"}}, {Key: "c", Value: bson.M{"d": bson.NewObjectID()}}}),
		copied(bson.M{"a": int32(1), "b": bson.DateTime(5)}),
		copied(bson.Raw{5, 0, 0, 0, 0}),
		copied(bson.Decimal128{}),
		copied(bson.Timestamp{T: 1}),
		copied(bson.Regex{Pattern: "a"}),
		// networks, chats and the rest
		copied(&question),
		copied[dns.RR](question.Answer[0], &dns.MX{Mx: "a"}),
		copied(dns.Question{Name: "a"}),
		copied(packet),
		copied(gopacket.CaptureInfo{Timestamp: at, Length: 5}),
		copied(&layers.TCP{SrcPort: 80, BaseLayer: layers.BaseLayer{Contents: []byte{1}}}),
		copied(&layers.IPv4{TTL: 5, SrcIP: net.IP{1, 2, 3, 4}}),
		copied(tx),
		copied(&wire.BlockHeader{Timestamp: at}),
		copied(chainhash.Hash{1}),
		copied(&wire.MsgBlock{Transactions: []*wire.MsgTx{tx, tx}}),
		copied(wire.InvVect{Type: wire.InvTypeTx}),
		copied(slack.RTMEvent{Type: "hello", Data: &slack.HelloEvent{}}),
		copied(&slack.MessageEvent{Msg: slack.Msg{Text: "a", Attachments: []slack.Attachment{{Title: "b"}}}}),
		copied(slack.User{ID: "a"}),
		copied(&discordgo.Message{ID: "a", Timestamp: at, Author: &discordgo.User{ID: "b"}, Components: []discordgo.MessageComponent{&discordgo.Button{Label: "c"}}}),
		copied(&discordgo.Guild{ID: "a"}),
		copied(&discordgo.MessageCreate{Message: &discordgo.Message{ID: "a"}}),
		copied(&oauth2.Token{AccessToken: "a", Expiry: at}),
		copied(jwt.MapClaims{"sub": "a", "exp": 1.5}),
		copied(jwt.RegisteredClaims{Issuer: "a", ExpiresAt: jwt.NewNumericDate(at)}),
		copied(&document),
		copied(&yaml.TypeError{Errors: []string{"a"}}),
		copied(orb.Point{1, 2}),
		copied[orb.Geometry](orb.LineString{{1, 2}, {3, 4}}, orb.Point{1, 2}),
		copied(geojson.NewFeature(orb.Point{1, 2})),
		copied(ocispec.Descriptor{MediaType: "a", Digest: ocidigest.FromString("b"), Size: 5}),
		copied(ocispec.Manifest{Layers: []ocispec.Descriptor{{Size: 1}}}),
		copied(ocidigest.FromString("a")),
	}
}
