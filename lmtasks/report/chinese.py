"""Pages in Chinese: one table of strings, from the English that the report computes.

A key may have places, `{}` for a name or a part of a sentence, `{*}` for a list, `{#}` for a number; what stands there
is translated in turn, names stay as they are:

>>> chinese("3 of 40 cells failed; the tables say why.")
'40 个单元中有 3 个失败；原因见表格。'
>>> chinese("mini · acc, minus torch fp32"), chinese("sst2")
('mini · acc，减去 torch fp32', 'sst2')

Else gettext: its tools read calls, and half of these sentences are put together of parts. A sentence that changes without
its line here fails a test, which renders every made run in Chinese and looks for English that is left.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from functools import cache
from itertools import count

CHINESE: Mapping[str, str] = {
    # The page itself
    "lmtasks report": "lmtasks 报告",
    "The answer": "结论",
    "Read first": "请先阅读",
    "Contents": "目录",
    "Skip to the answer": "跳到结论",
    "Show all": "全部显示",
    "Show more": "显示更多",
    "filter": "筛选",
    "Copy Markdown": "复制 Markdown",
    "Copy CSV": "复制 CSV",
    "{#} note": "{} 条注释",
    "{#} notes": "{} 条注释",
    "Computed by lmtasks from the stored records of the run.": "由 lmtasks 根据运行存储的记录计算得出。",
    # Sections
    "Task by task": "逐任务结论",
    "By the number of labelled rows": "按标注行数",
    "Quality": "质量",
    "Every metric, task by task": "各任务的全部指标",
    "Label by label": "逐标签",
    "{}: recall of each label, points, with its 95 % interval": "{}：各标签的召回率（百分制），附 95 % 区间",
    "Beside what was published": "与已发表结果对照",
    "Paired by example": "逐例配对比较",
    "Against the trivial answer": "与平凡答案比较",
    "Over groups of tasks": "按任务组",
    "Samples": "样例",
    "Settings chosen on validation rows": "在验证行上选定的设置",
    "Training": "训练",
    "Speed": "速度",
    "Under a load": "负载下",
    "The largest rate": "最大速率",
    "What answers cost": "答案的费用",
    "By batch size and length": "按批大小与长度",
    "What production needs": "生产要求",
    "Quality against speed": "质量与速度",
    "Proofs of export": "导出证明",
    "What rounding costs": "量化的代价",
    "The machine": "机器",
    "Conditions": "条件",
    "Library versions": "库版本",
    "How to repeat it": "如何复现",
    "The plan": "计划",
    "How often a probability is right": "概率有多可信",
    # Scope
    "{#} variant": "{} 个变体",
    "{#} variants": "{} 个变体",
    "{#} baseline": "{} 个基线",
    "{#} baselines": "{} 个基线",
    "{#} task": "{} 个任务",
    "{#} tasks": "{} 个任务",
    "{#} scored examples": "{} 个评分样例",
    "{} of {#} examples": "{}（{} 个样例）",
    "learned from {*}": "学习自 {}",
    "{#} row": "{} 行",
    "{#} rows": "{} 行",
    "all rows": "全部行",
    # Columns and words of tables
    "task": "任务",
    "variant": "变体",
    "variant A": "变体 A",
    "variant B": "变体 B",
    "model": "模型",
    "models": "模型",
    "baselines": "基线",
    "bounds": "上界",
    "baseline": "基线",
    "take": "采用",
    "best": "最佳",
    "keeps its quality": "保持其质量",
    "not told apart": "无法区分",
    "worse": "更差",
    "better": "更好",
    "score": "得分",
    "difference": "差值",
    "examples": "样例数",
    "variants differ": "变体不一致",
    "all fail": "全部失败",
    "shown": "已显示",
    "A and B answer differently": "A 与 B 回答不同",
    "A is better than B": "A 优于 B",
    "B is better than A": "B 优于 A",
    "with the words that moved an answer": "标出影响答案的词",
    "without it:": "去掉后：",
    "points of probability that the answer has by a word": "某词为答案带来的概率（百分点）",
    "words that have another tag without a word": "去掉某词后标签改变的词数",
    "Of examples that come first the words that moved an answer are marked: each was left out in turn, and what the "
    "model said then was held against what it had said (occlusion, Zeiler and Fergus 2014).": "排在前面的样例标出了影响答案的词：逐一去掉每个词，"
    "再将模型此时的回答与原来的回答对照（遮挡法，Zeiler 与 Fergus 2014）。",
    "words that moved an answer are told of models; a baseline, or an answer that was given, has none": "影响答案的词只对模型给出；基线或已有的"
    "答案没有",
    "{}: words that moved an answer are told of heads, and of prompts without worked examples and chat templates": "{}：影响答案的词"
    "只对任务头、以及不含示例与对话模板的提示给出",
    "{}: asked again, the model answers otherwise, so no words are told": "{}：再次询问时模型的回答不同，因此不给出影响答案的词",
    "--explain is about labels and tags of texts; {} asks for {}": "--explain 针对文本的标签与标注；{} 所问的是 {}",
    "{}: the words of {} cannot be read ({})": "{}：{} 的词无法读取（{}）",
    "all that are shown": "全部已显示的",
    "right answer": "正确答案",
    "no class": "无此类别",
    "all variants": "所有变体",
    "characters, from": "字符数，从",
    "to": "到",
    "words": "词语",
    "Found, shown on this page, scored:": "找到、本页显示、已评分：",
    "all of them:": "完整文件：",
    "training": "训练",
    "of one seed": "单个种子",
    "seeds": "种子数",
    "steps": "步数",
    "weights": "权重数",
    "that learned": "参与学习的",
    "scores": "得分",
    "settings": "设置",
    "default": "默认",
    "latency": "延迟",
    "throughput": "吞吐量",
    "layout": "布局",
    "imports": "导入",
    "loading": "加载",
    "peak memory": "峰值内存",
    "of it imports": "其中导入",
    "on disk": "磁盘占用",
    "libraries": "库",
    "in all": "总计",
    "what was loaded": "所加载的文件",
    "to the first answers": "直到首批答案",
    "how it uses the processor": "如何使用处理器",
    "× torch": "× torch",
    "× torch, batch 1": "× torch，批大小 1",
    "× torch, largest batch": "× torch，最大批",
    "first token": "首个词元",
    "next token": "后续词元",
    "batch {}": "批大小 {}",
    "batch {} to {}": "批大小 {} 至 {}",
    "{}, batch 1": "{}，批大小 1",
    "of the limit": "占极限",
    "what the machine allows": "机器所允许的",
    "at work": "工作占比",
    "good requests/s": "达标请求/秒",
    "within all limits": "满足全部限制",
    "requests/s": "请求/秒",
    "holds": "满足",
    "rates tried": "试过的速率数",
    "cost of 1,000 answers": "每千个答案的费用",
    "reckoned by": "计算依据",
    "apart": "各自独立",
    "given answers": "给定的答案",
    "{#} tokens read and {#} written an answer, as the server bills them": "每个答案读 {} 词元、写 {} 词元，按服务器计费",
    "{#} tokens read and {#} written an answer, as they were sent": "每个答案读 {} 词元、写 {} 词元，按所发送的计",
    "{#} core-seconds an answer on {#} cores, at batch {#}": "每个答案 {} 核心秒，共 {} 个核心，批大小 {}",
    "{#} s of the machine an answer, at batch {#}": "每个答案占用机器 {} 秒，批大小 {}",
    "The largest rate at which a latency held; each rate that was tried is a run of its own.": "延迟仍满足要求的最大速率；"
    "每个试过的速率都单独运行一次。",
    "By the prices that the plan names: of a server a million tokens, of anything else an hour of this machine.": "按计划"
    "给出的价格计算：服务器按百万词元，其余按本机每小时。",
    "share of the time": "时间占比",
    "batching": "组批方式",
    "core time": "核心时间",
    "an answer, largest batch": "每个答案，最大批",
    "not timed": "未计时",
    "graph": "计算图",
    "compared": "比较数",
    "numbers": "个数",
    "largest difference": "最大差异",
    "cosine": "余弦",
    "smallest": "最小",
    "equal choices": "相同选择",
    "divergence": "KL 散度",
    "nats": "纳特",
    "result": "结果",
    "proved": "已证明",
    "not proved": "未证明",
    "metric": "指标",
    "rounded": "量化后",
    "drop": "下降",
    "95 % interval": "95 % 区间",
    "a larger drop": "更大的下降",
    "excluded": "已排除",
    "open": "未定",
    "open; {} examples would tell": "未定；{} 个样例可以判定",
    "excluded; {} examples would tell": "已排除；{} 个样例可以判定",
    "here": "本次",
    "wanted": "目标",
    "reached": "达到",
    "published": "已发表",
    "by": "来源",
    "yes": "是",
    "no": "否",
    "not run": "未运行",
    "failed": "失败",
    "group": "组",
    "rank": "名次",
    "answered by": "作答方式",
    "examples shown": "示例数",
    "decoding": "解码",
    "limit": "上限",
    "seed": "种子",
    "rows known before": "先前已知的行",
    "signature of the main metric": "主指标的签名",
    "data": "数据",
    "rows without a label, left out": "因无标签而略去的行",
    "not known": "未知",
    "of training not known": "训练情况未知",
    "none": "无",
    "head": "任务头",
    "prompt": "提示",
    "greedy": "贪心",
    "at most {} tokens": "至多 {} 个词元",
    "{#} beams": "{} 束",
    "{#} drawn": "抽取 {} 行",
    "{#} of {#}": "{1} 中的 {0}",
    "{#} thread": "{} 线程",
    "{#} threads": "{} 线程",
    "{#} callers": "{} 个调用者",
    "{} callers × {}": "{} 个调用者 × {}",
    "{} examples/s": "{} 样例/秒",
    "{} requests/s": "{} 请求/秒",
    "{} tokens/s": "{} 词元/秒",
    "{} requests a second": "每秒 {} 个请求",
    "{#} tokens": "{} 个词元",
    "its own rows": "任务自身的行",
    "{} % of memory bandwidth": "内存带宽的 {} %",
    "{} % of the matrix product": "矩阵乘法的 {} %",
    "one text or choice scored": "评分一个文本或选项",
    "one text or window through a head": "一个文本或窗口经过任务头",
    "{} new tokens, no fewer": "正好 {} 个新词元",
    "{#} h {#} min": "{} 小时 {} 分",
    "{#} min {#} s": "{} 分 {} 秒",
    "{#} s": "{} 秒",
    "classification": "分类",
    "translation": "翻译",
    "summarization": "摘要",
    "span": "抽取式问答",
    "tagging": "序列标注",
    "language modelling": "语言建模",
    "language_modelling": "语言建模",
    # The machine
    "processor": "处理器",
    "cores": "核心",
    "{#} usable of {#}": "{1} 个中可用 {0} 个",
    "instruction sets": "指令集",
    "memory": "内存",
    "system": "系统",
    "virtual": "虚拟机",
    "processor limit": "处理器限额",
    "{#} cores": "{} 个核心",
    "governor": "调频策略",
    "reading from memory": "内存读取",
    "copy bandwidth": "复制带宽",
    "{} GB/s, read and written": "{} GB/s，读写合计",
    "matrix product": "矩阵乘法",
    "matrix product, {}": "矩阵乘法，{}",
    # Captions
    "Fractions are given in points, 0-100, as BLEU, chrF and ROUGE are. ± and [low, high] are 95 % intervals over the "
    "examples. ↓ marks metrics of which less is better. A value is marked where it is better than every other one of its "
    "task by more than chance.": "比例以 0-100 的百分点给出，与 BLEU、chrF 和 ROUGE 相同。± 与 [低, 高] 是对样例的 95 % 区间。"
    "↓ 表示越小越好的指标。仅当一个值显著优于同一任务的所有其他值时才加标记。",
    "The main metric of each task with its 95 % interval; fractions in points, 0-100.": "各任务的主指标及其 95 % 区间；"
    "比例以 0-100 的百分点表示。",
    "{}: every metric": "{}：全部指标",
    "{} minus {} on the main metric, paired by example, with its 95 % interval; fractions in points, 0-100. better, "
    "worse: p < {} by Holm's procedure over all {} of the table.": "{}减去{}，主指标，逐例配对，附 95 % 区间；比例以 0-100 的百分点"
    "表示。更好、更差：对表中全部 {3} 个比较按 Holm 方法校正后 p < {2}。",
    "{} minus {} on the main metric, paired by example, with its 95 % interval, over examples and {} seeds; fractions in "
    "points, 0-100. better, worse: p < {} by Holm's procedure over all {} of the table.": "{0}减去{1}，主指标，逐例配对，附对样例和"
    " {2} 个种子的 95 % 区间；比例以 0-100 的百分点表示。更好、更差：对表中全部 {4} 个比较按 Holm 方法校正后 p < {3}。",
    "Each exported variant": "每个导出的变体",
    "the one that it was exported from": "其导出来源",
    "Each model": "每个模型",
    "the best rivals: the best trivial answer, and the best that learns from the same rows": "最佳对手：最佳平凡答案，以及从相同行"
    "学习的最佳方法",
    "Each variant on changed rows": "每个变体在改动后的行上",
    "itself on the rows as they are": "其在原始行上的结果",
    "Each variant": "每个变体",
    "the best that was scored, rivals among them": "已评分者中的最佳（含对手）",
    "the first one that has the task": "有该任务的第一个模型",
    "the reference, or the first one that has the task": "参照，或有该任务的第一个模型",
    "{}, minus {}": "{}，减去 {}",
    "Figures that others printed, and what was found here; fractions in points, 0-100. Data, splits and cleaning there "
    "may differ, as each row says.": "他人发表的数字与本次结果；比例以 0-100 的百分点表示。数据、划分和清洗可能不同，见各行说明。",
    "Seconds of training steps and of looks at the validation rows between them, or of the fit of a family that takes no "
    "steps; without reading the data; the mean over seeds.": "训练步骤及其间验证所用的秒数，或无步骤的模型族的拟合时间；不含读取数据；"
    "取各种子的均值。",
    "Loss on training rows, the mean since the look before, and on validation rows, of the same kind; where the one "
    "falls and the other rises, the model overfits. Kept are the latest weights that validation rows do not show to be "
    "worse than earlier ones.": "训练行上的损失（自上次验证以来的均值）与验证行上的同类损失；前者下降而后者上升时，模型过拟合。保留的是验证行未"
    "显示差于先前权重的最新权重。",
    "Each variant in fresh processes of its own, memory in one in which nothing is timed. Ratios are geometric means over "
    "the tasks.": "每个变体在独立的新进程中运行，内存在不计时的进程中测量。比值是各任务的几何平均。",
    "Each variant in fresh processes of its own, memory in one in which nothing is timed. Ratios are geometric means over "
    "the tasks. {} rounds in alternation, their samples taken together.": "每个变体在独立的新进程中运行，内存在不计时的进程中测量。"
    "比值是各任务的几何平均。交替进行 {} 轮，样本合并。",
    "Latency of one request alone; throughput of many handed over at once. Texts are already tokens. A text is streamed: "
    "its first token comes when the prompt is read, then one after the other. The limit is the time that the machine "
    "would need at least, to read all weights from memory or to multiply them. Marked: faster than every other variant, "
    "their intervals apart.": "单个请求的延迟；同时提交多个请求的吞吐量。文本已转为词元。文本流式输出：读完提示后给出首个词元，随后逐个"
    "给出。极限是机器从内存读取全部权重或完成乘法至少需要的时间。加标记：快于所有其他变体，且区间不重叠。",
    "Requests come {}, whether or not earlier ones are answered, and a latency counts from the moment at which its "
    "request was to come: a pause shows in everybody who waited for its end. Texts that join are written beside those "
    "that were there before; queued requests wait for the next batch.": "请求{}到达，不论先前的是否已答复；延迟从请求应到达的时刻算起："
    "一次停顿会体现在所有等待者身上。新加入的文本与已有的并行书写；排队的请求等待下一批。",
    "independent of each other (Poisson)": "相互独立（泊松）",
    "at even gaps": "等间隔",
    "The same work at several batch sizes and lengths.": "同样的工作，在若干批大小和长度下。",
    "What production needs, as the plan says: {}. {}": "计划所述的生产要求：{}。{}",
    "{} fulfils all of it for the fewest core-seconds an answer.": "{} 以每个答案最少的核心秒满足全部要求。",
    "No variant fulfils all of it.": "没有变体满足全部要求。",
    "Up is better unless the axis says otherwise, right is faster. Bars are 95 % intervals; dashed lines are baselines. "
    "The dotted line joins those that nothing is both better and faster than.": "除非坐标轴另有说明，越高越好，越右越快。线段是 95 % 区间；"
    "虚线是基线。点线连接没有其他变体既更好又更快的那些变体。",
    "{}: heads that weigh n-grams of tokens, as TF-IDF does, beside the backbone's states: {}": (
        "{}：除主干的状态外还像 TF-IDF 那样给词元 n 元组加权的任务头：{}"
    ),
    "behind each name its expected calibration error, points": "名称后为期望校准误差，百分点",
    "probability of the answer, %": "答案的概率，%",
    "right, %": "正确，%",
    "right as often as said": "正确率与所述概率一致",
    "below: {}": "下方：{}",
    "above: {}": "上方：{}",
    "throughput at batch {#}, examples/s": "批大小 {} 时的吞吐量，样例/秒",
    "{}, points": "{}，百分点",
    "{}, points (lower is better)": "{}，百分点（越低越好）",
    "{} (lower is better)": "{}（越低越好）",
    "step": "步",
    "loss": "损失",
    "loss, nats per token": "损失，纳特/词元",
    "best look: step {#}": "最好的一次验证：第 {} 步",
    "kept: step {#}": "保留：第 {} 步",
    "validation": "验证",
    "training rows": "训练行数",
    "validation score, points": "验证分数，百分点",
    "chosen": "选定",
    "requests a second": "每秒请求数",
    "latency, p95, ms": "延迟，p95，毫秒",
    "batch size": "批大小",
    "tokens of a request": "每个请求的词元数",
    "threads": "线程数",
    "examples/s": "样例/秒",
    "Every exported package was compared with the model that was trained, on real texts of several lengths, with padding "
    "on either side and with holes. Rounded weights answer a little differently by design; Quality tells what that "
    "costs.": "每个导出包都与训练所得的模型作了比较，使用若干长度的真实文本，两侧填充以及带空洞。量化后的权重按设计会略有不同；其代价见“质量”。",
    "Every exported package was compared with the model that was trained, on real texts of several lengths, with padding "
    "on either side and with holes. Rounded weights answer a little differently by design; Quality tells what that "
    "costs. The divergence is Kullback and Leibler's, of the package's probabilities from the model's, the mean over all "
    "choices.": "每个导出包都与训练所得的模型作了比较，使用若干长度的真实文本，两侧填充以及带空洞。量化后的权重按设计会略有不同；"
    "其代价见“质量”。KL 散度是导出包的概率相对于模型概率的散度，对全部选择取平均。",
    "two tokens": "两个词元",
    "one text": "一篇文本",
    "texts padded left": "左侧填充的文本",
    "texts with holes": "带空洞的文本",
    "longest": "最长的",
    "one below the longest": "比最长少一个词元的",
    "{} greedy tokens": "{} 个贪心生成的词元",
    "{} · allowed: {} · proved {} of {} cases in {} seconds, of {} at most; not proved: {}": (
        "{} · 允许：{} · {4} 秒内（至多 {5} 秒）证明了 {3} 组中的 {2} 组；未证明：{6}"
    ),
    "{} · allowed: {}": "{} · 允许：{}",
    "largest difference {}": "最大差异 {}",
    "cosine at least {}": "余弦至少 {}",
    "mean difference of log-probabilities {}": "对数概率平均差异 {}",
    "a drop of {}": "下降 {}",
    "What rounding cost on validation rows, which nothing here is scored on, of the package paired with the same in fp32; "
    "packages that lost more than was allowed were not kept. Where the layers that rounding hurt most stayed in fp32 for "
    "that, the package's line says how many. An interval that reaches beyond what was allowed leaves open whether more is "
    "lost; so many examples would tell.": "量化在验证行（本页不在其上评分）上的代价，与 fp32 的同一包配对；损失超过允许值的包未被保留。"
    "若受损最大的层为此保留在 fp32，该行会注明层数。区间超出允许值时，是否损失更多尚未定论；并给出可以判定的样例数。",
    "Values are comparable with those of another run where these are equal.": "这些项相同时，数值可与其他运行比较。",
    "One cell of each variant by hand; cells/*.json have the commands of all of them.": "每个变体一个单元的手动命令；全部命令见 "
    "cells/*.json。",
    "Examples on which the variants differ (one has a better value than another), on which all fail (no value above 0, "
    "or, of values that are no yes or no, the worst tenth), and the others. Those that are shown are taken from each kind "
    "at even distances, none is chosen by hand.": "变体不一致的样例（一个的值优于另一个）、全部失败的样例（没有大于 0 的值；若值非对即错，则"
    "取最差的十分之一）以及其余样例。显示的样例从每类中等距选取，没有手工挑选。",
    "The main metric by the number of training rows, with its 95 % interval over examples and seeds; fractions in points, "
    "0-100. The rows of a seed are among the larger numbers of the same seed, each label with its share; models and "
    "rivals learn from the same ones, and all are scored on the same examples. Validation rows, on which weights and "
    "rivals are chosen where there is a choice, come beside them. Marked: better than every other one with that number of "
    "rows by more than chance.": "按训练行数的主指标，附对样例和种子的 95 % 区间；比例以 0-100 的百分点表示。同一种子较少的行包含于较多的行，"
    "各标签按比例；模型与对手从相同的行学习，并在相同的样例上评分。用于选择权重和对手的验证行另计。加标记：在该行数下显著优于所有其他变体。",
    "{}: the score on validation rows (0-100, mean over its tasks, of the weights that were kept); the mean over seeds ± "
    "its standard deviation. The chosen settings are marked; scored rows had no part in it.": "{}：验证行上的得分（0-100，各任务均值，"
    "取所保留的权重）；各种子的均值 ± 标准差。选定的设置加标记；评分行未参与其中。",
    # Notes
    "not applicable: {}": "不适用：{}",
    "failed: {}": "失败：{}",
    "no reason was recorded": "未记录原因",
    "mean of {} seeds": "{} 个种子的均值",
    "learns from no rows: the same value for every number": "不从任何行学习：各行数下的值相同",
    "{} labels are without an example among the rows": "行中有 {} 个标签没有样例",
    "{} inputs were cut to fit the model": "{} 个输入为适应模型而被截断",
    "{} % of the scored tokens are unknown ones": "评分词元中 {} % 为未知词元",
    "{} does not answer {} tasks; {} does.": "{} 不能回答 {} 类任务；{} 可以。",
    "{} is the best of {*} ({} of {} validation rows)": "{} 是 {} 中最佳（{3} 个验证行上的 {2}）",
    "{} is the best of {*} ({} of {} scored rows, as there are no validation rows)": "{} 是 {} 中最佳（无验证行，故取 {3} 个评分行上的 {2}）",
    "{#} of {#} scored rows were learned from": "{1} 个评分行中有 {0} 个曾用于学习",
    "{#} of {#} scored rows were chosen on": "{1} 个评分行中有 {0} 个曾用于选择",
    "{#} of {#} scored rows stand in the task's training rows": "{1} 个评分行中有 {0} 个在该任务的训练行中",
    "{#} were chosen on": "{} 个曾用于选择",
    "{#} stand in the task's training rows": "{} 个在该任务的训练行中",
    "{} ({#} by what is asked, {#} by the right text)": "{}（{} 个按问题，{} 个按正确文本）",
    "{} cannot answer {}": "{} 不能回答 {}",
    "{} have their own answer among the worked examples": "{} 个在示例中含有其自身答案",
    "{} on the other {#}: {}": "其余 {1} 行上的 {0}：{2}",
    "{} examples would hardly show less than {} points": "{} 个样例难以显示小于 {} 个百分点的差异",
    "{} examples would hardly show less than {}": "{} 个样例难以显示小于 {} 的差异",
    "its time was up after {} steps": "{} 步后时间用尽",
    "its time was up after {} steps (seed {})": "{} 步后时间用尽（种子 {}）",
    "{} (seed {#})": "{}（种子 {}）",
    "it had stopped to gain after {} steps": "{} 步后不再提升",
    "it had stopped to gain after {} steps (seed {})": "{} 步后不再提升（种子 {}）",
    "a percentile is printed only with enough calls: p50 needs 7, p90 44, p95 90, p99 459": "调用次数足够时才给出分位数：p50 需 7 次，"
    "p90 44 次，p95 90 次，p99 459 次",
    "other processes took a core away {} times a second": "其他进程每秒抢占核心 {} 次",
    "the machine's own pace changed": "机器自身的速度改变",
    "a fixed matrix product ran {#}% slower afterwards": "固定的矩阵乘法事后慢了 {}%",
    "a fixed matrix product ran {#}% faster afterwards": "固定的矩阵乘法事后快了 {}%",
    "{} ({#} times in {#} rounds)": "{}（{2} 轮中 {1} 次）",
    "{} (once in {#} rounds)": "{}（{1} 轮中 1 次）",
    "cut after {} s, {} calls": "{} 秒、{} 次调用后截止",
    "a whole pass has {}": "完整一遍有 {} 次",
    "the times had not settled after {} calls of warming up": "预热 {} 次调用后时间仍未稳定",
    "the machine was not idle before the start": "开始前机器并不空闲",
    "load {#} on {#} cores": "{1} 个核心上负载 {0}",
    "others used {#}% of it (load {#} on {#} cores)": "其他进程占用 {0}%（{2} 个核心上负载 {1}）",
    "a call at batch {}: max({*}) = {} ms at least, {} ms measured; {} product, reads of {}": "批大小 {} 的一次调用：max({}) 即至少 {} 毫秒，"
    "实测 {} 毫秒；{} 乘法，读取 {}",
    "a step at batch {}: max({*}) = {} ms at least, {} ms measured; {} product, reads of {}": "批大小 {} 的一步：max({}) 即至少 {} 毫秒，"
    "实测 {} 毫秒；{} 乘法，读取 {}",
    "one activation scale per tensor": "每个张量一个激活尺度",
    "an answer depends on what else is in its batch": "答案取决于同批中的其他输入",
    "a server": "服务器",
    "the model is what the server says it is": "模型身份仅为服务器自称",
    "the model is what its server says it is": "模型身份仅为其服务器自称",
    "nobody has verified it": "无人验证",
    "nobody has verified it.": "无人验证。",
    "the model wrote no letter, which counts as a wrong answer.": "模型没有写出字母，按错误答案计。",
    "the model wrote no letter, which counts as a wrong answer (true of {#} of {#} examples).": "模型没有写出字母，按错误答案计（{} / {} 个样例）。",
    "row {#}": "第 {} 行",
    "{#} of {#} examples have no answer and are left out": "{} / {} 个样例没有答案，未计入",
    # Metrics
    "F1 of tagged entities, type and both borders (conlleval)": "标注实体的 F1，类型与两端边界（conlleval）",
    "share of right tags": "正确标签的比例",
    "share of right answers, asked as letters (A, B, ...) that the model writes": "正确答案的比例，以模型写出的字母（A、B……）作答",
    "share of right answers (of a given text: is it what greedy decoding yields?)": "正确答案的比例（对给定文本：贪心解码是否得到它？）",
    "mean of the F1 of every class": "各类别 F1 的均值",
    "perplexity per token (not comparable across tokenizers)": "每词元困惑度（不同分词器间不可比）",
    "perplexity per word": "每词困惑度",
    "perplexity per UTF-8 byte": "每 UTF-8 字节困惑度",
    "bits to encode one UTF-8 byte": "编码一个 UTF-8 字节所需比特",
    "sacrebleu, 13a tokenizer": "sacrebleu，13a 分词",
    "sacrebleu, Chinese tokenizer": "sacrebleu，中文分词",
    "character n-gram F": "字符 n 元 F 值",
    "translation edit rate": "翻译编辑率",
    "F of shared words": "共有词的 F 值",
    "F of shared word pairs": "共有词对的 F 值",
    "F of the longest common subsequence": "最长公共子序列的 F 值",
    "exact match by the SQuAD 2.0 script (zh: CMRC 2018)": "SQuAD 2.0 脚本的精确匹配（中文：CMRC 2018）",
    "overlap with the nearest reference by the SQuAD 2.0 script (zh: CMRC 2018)": "SQuAD 2.0 脚本与最近参考的重叠（中文：CMRC 2018）",
    # The decision
    "Recommended": "推荐",
    "Nearest": "最接近",
    "Quality against {}": "质量，相对 {}",
    "{}, the reference": "{}（参照）",
    "{}, the first model": "{}（第一个模型）",
    "{}, which it was exported from": "{}（其导出来源）",
    "the best rival": "最佳对手",
    "the best of the others": "其余最佳者",
    "Speed against {}": "速度，相对 {}",
    "Memory and size": "内存与大小",
    "{} at the peak, libraries among them": "峰值 {}（含库）",
    "{} on disk": "磁盘占用 {}",
    "Ship {}?": "是否发布 {}？",
    "Do not ship where": "在以下情况不要发布",
    "The machine was disturbed": "机器受到干扰",
    "{} points {} in the mean over {}": "{2} 上平均 {0} 个百分点 {1}",
    "{} points {} in the mean over {} against whoever is best there": "{2} 上平均 {0} 个百分点 {1}，相对各任务的最佳者",
    "both tasks": "两个任务",
    "worse by more than chance on {*}": "显著更差：{}",
    "not told apart, and a loss beyond the margin is not excluded, on {*}": "无法区分，且未排除超出容限的损失：{}",
    "not paired on {*}": "未配对：{}",
    "better by more than chance on {*}": "显著更好：{}",
    "a loss beyond the margin is excluded on {*}": "已排除超出容限的损失：{}",
    "{} and {} more": "{} 等另外 {} 个",
    "{#} more": "另外 {} 个",
    "{#} more.": "另外 {} 个。",
    "{} points": "{} 个百分点",
    "{} point": "{} 个百分点",
    "{} points {}": "{} 个百分点 {}",
    "{} points {} against {}": "{} 个百分点 {}，相对 {}",
    "{} points against {}": "{} 个百分点，相对 {}",
    "{} against {}": "{}，相对 {}",
    "{} the throughput at batch {} ({*})": "批大小 {1} 时吞吐量为 {0}（{2}）",
    "{} as fast for one request alone ({*})": "单个请求快 {}（{}）",
    "on one task": "一个任务",
    "over {#} tasks": "{} 个任务",
    "paired over {} rounds": "{} 轮配对",
    "intervals of both joined": "合并两者区间",
    "Yes, in place of {}: on the one task a loss beyond the margin is excluded; nearest to it ({}) is {*}": "可以，替代 {}：在该任务上已排除"
    "超出容限的损失；最接近容限（{}）的是 {}",
    "Yes, in place of {}: on all {} tasks a loss beyond the margin is excluded; nearest to it ({}) is {*}": "可以，替代 {}：在全部 {} 个任务上"
    "已排除超出容限的损失；最接近容限（{}）的是 {}",
    "No, not in place of {}: worse by more than the margin ({}) on {*}": "不可以替代 {}：差于容限（{}）的有 {}",
    "Not shown, in place of {}: {}": "尚不能证明可替代 {}：{}",
    "a loss beyond the margin ({}) is not excluded on {*}": "未排除超出容限（{}）的损失：{}",
    "nothing is paired on {*}": "没有配对比较：{}",
    "{*}. It brings {}, and {}.": "{}。它带来 {}，以及 {}。",
    "{*}. It brings {}.": "{}。它带来 {}。",
    "{} the throughput": "{} 的吞吐量",
    "{} instead of {} on disk": "磁盘占用 {} 而非 {}",
    "outside the interval of {}": "在 {} 的区间之外",
    "the best": "最佳者",
    "{} ({}, not paired)": "{}（{}，未配对）",
    "{}, the best": "{}（最佳）",
    "it does not beat the trivial answer by more than chance": "未显著优于平凡答案",
    "it failed ({})": "失败（{}）",
    "it has no score there": "没有得分",
    "in {#} of {#} timings": "{1} 次计时中的 {0} 次",
    "the first: {}": "首个：{}",
    "{} (not paired)": "{}（未配对）",
    "{} ({} points, not paired)": "{}（{} 个百分点，未配对）",
    "{} (up to {} points)": "{}（至多 {} 个百分点）",
    "{} ({} points)": "{}（{} 个百分点）",
    "{}, not paired": "{}，未配对",
    "not paired": "未配对",
    "no score": "无得分",
    "a rival": "对手",
    "{} (a rival)": "{}（对手）",
    "Task by task, paired by example: the best, who keeps its quality (a loss beyond the margin is excluded), who is not "
    "told apart from it (with the loss that is not excluded), and who is worse by more than chance. To take: the fastest "
    "of the best and of those that keep its quality, where they were timed.": "逐任务、逐例配对：最佳者、保持其质量者（已排除超出容限的损失）、"
    "无法与之区分者（附未排除的损失）以及显著更差者。采用：在已计时者中，最佳者与保持其质量者里最快的。",
    "Who cannot be told apart": "谁与谁无法区分",
    "may be best": "可能最佳",
    "May be best everywhere": "处处可能最佳",
    "{#} of {#} are not told apart from the best on any task (simultaneous intervals)": "{1} 个中的 {0} 个在任何任务上都与最佳者无法区分"
    "（同时区间）",
    "{#} of {#} is not told apart from the best on any task (simultaneous intervals)": "{1} 个中的 {0} 个在任何任务上都与最佳者无法区分"
    "（同时区间）",
    "any of all {#}": "全部 {} 个中的任何一个",
    "nobody is told apart from the best on any task (simultaneous intervals)": "在任何任务上都没有谁与最佳者可以区分（同时区间）",
    "of its tasks": "所答任务中",
    "mean over tasks": "各任务均值",
    "nobody": "无",
    "All variants against all, paired by example: those that share a letter are not told apart; beside it the difference "
    "from the best with its simultaneous 95 % interval, which holds for all pairs of the task together.{*}": "所有变体两两逐例配对：共有字母者"
    "无法区分；其旁为与最佳者的差值及同时 95 % 区间，对该任务的所有配对同时成立。{}",
    " The rank is the mean over the tasks, among those that answer all; its interval holds over all tasks together.{*}": "名次取在回答全部任务"
    "的变体中各任务的均值；其区间对所有任务同时成立。{}",
    " The rank is the mean over the tasks, among those that answer all; its interval holds over all tasks together.": "名次取在回答全部任务"
    "的变体中各任务的均值；其区间对所有任务同时成立。",
    " Defensibly best on every task, all tasks counted together: {}.": "在每个任务上都可能最佳（所有任务合计）：{}。",
    # Sentences of the answer
    "No model was scored yet.": "尚无模型得分。",
    "No variant answers all {} tasks; the table says who is best on each.": "没有变体回答全部 {} 个任务；各任务的最佳者见表。",
    "One model was scored, {}: there is nothing to choose between.": "只有一个模型 {} 得分：无可选择。",
    "{} keeps the quality of the best {} (paired by example: not worse by more than chance, and {} is excluded){}.": "{}{1}保持最佳者的质量"
    "（逐例配对：不显著更差，且已排除{2}）{3}。",
    "{} keep the quality of the best {} (paired by example: not worse by more than chance, and {} is excluded){}.": "{}{1}保持最佳者的质量"
    "（逐例配对：不显著更差，且已排除{2}）{3}。",
    "{} keeps the quality of the best {} (paired by example: not worse by more than chance, and {} is excluded).": "{}{1}保持最佳者的质量"
    "（逐例配对：不显著更差，且已排除{2}）。",
    "{} keep the quality of the best {} (paired by example: not worse by more than chance, and {} is excluded).": "{}{1}保持最佳者的质量"
    "（逐例配对：不显著更差，且已排除{2}）。",
    "on the one task": "在这一任务上",
    "on all {} tasks": "在全部 {} 个任务上",
    "a loss of more than {}": "大于{}的损失",
    "{#} % of a perplexity": "困惑度的 {} %",
    "{#} point or {}": "{} 个百分点或{}",
    "{#} points or {}": "{} 个百分点或{}",
    "Nobody is shown to keep the quality of the best {}. Nowhere worse by more than chance is {}, but these examples do "
    "not exclude {}: {}.": "没有变体被证明{}保持最佳者的质量。{}没有任何一处显著更差，但这些样例未排除{}：{}。",
    "Nobody is shown to keep the quality of the best {}. Nowhere worse by more than chance are {}, but these examples do "
    "not exclude {}: {}.": "没有变体被证明{}保持最佳者的质量。{}没有任何一处显著更差，但这些样例未排除{}：{}。",
    "their speed was not measured": "未测量其速度",
    "the fastest of them is {}": "其中最快的是 {}",
    "{}, with {} the throughput of the same model in torch (geometric mean over the tasks)": "{}，吞吐量为同一模型在 torch 中的 {}"
    "（各任务几何平均）",
    ", with {} the throughput of the same model in torch (geometric mean over the tasks)": "，吞吐量为同一模型在 torch 中的 {}"
    "（各任务几何平均）",
    "{} ({})": "{}（{}）",
    "{} ({} up to {#} points and {} up to {#} points)": "{}（{} 至多 {} 个百分点和 {} 至多 {} 个百分点）",
    "up to {}": "至多 {}",
    "{} up to {#} points": "{} 至多 {} 个百分点",
    "{} up to {#}": "{} 至多 {}",
    "{} no score": "{} 无得分",
    "Nobody keeps the quality of the best {}; {} comes nearest among the models, worse by more than chance on {}.": "没有变体{}保持最佳者的"
    "质量；模型中 {} 最接近，显著更差之处：{}。",
    "Nobody keeps the quality of the best {}; {} comes nearest among the models, worse by more than chance on {}; "
    "without a score on {}.": "没有变体{}保持最佳者的质量；模型中 {} 最接近，显著更差之处：{}；无得分之处：{}。",
    "Nobody keeps the quality of the best {}; {} comes nearest among the models, without a score on {}.": "没有变体{}"
    "保持最佳者的质量；模型中 {} 最接近，无得分之处：{}。",
    "{} is faster still, {} {}, but not shown to keep the quality: {}.": "{} 更快，为 {2} 的 {1}，但未证明保持质量：{3}。",
    "A rival is ahead of every model on {}.": "对手领先所有模型之处：{}。",
    "{} ({} by {} against {}: {})": "{}（{2} 的 {1} 对 {3}：{4}）",
    "by more than chance": "显著",
    "more than chance": "显著",
    "not by more than chance": "不显著",
    "On {}, {} does not beat the trivial answer, {}, by more than chance.": "在 {} 上，{} 未显著优于平凡答案 {}。",
    "On {}, {} do not beat the trivial answer, {}, by more than chance.": "在 {} 上，{} 未显著优于平凡答案 {}。",
    "No trivial answer was scored beside a model.": "没有与模型并列评分的平凡答案。",
    "Every model beats the best trivial answer on every task by more than chance.": "每个模型在每个任务上都显著优于最佳平凡答案。",
    "Everywhere else the models beat the trivial answer by more than chance.": "在其他各处，模型均显著优于平凡答案。",
    "{#} of {#} cells failed; the tables say why.": "{1} 个单元中有 {0} 个失败；原因见表格。",
    "Not everything ran on the same machine: {}.": "并非都在同一台机器上运行：{}。",
    "With every number of rows: {}": "在各行数下：{}",
    "With {}: {}": "在 {} 下：{}",
    "{} against the best classical rival, by more than chance: {}.": "{} 与最佳经典对手相比（显著）：{}。",
    "ahead on {#} and behind on {#} of {} with {}": "{3} 时在 {2} 中的 {0} 个领先、{1} 个落后",
    "No model is ahead of the best classical rival by more than chance {}.": "没有模型显著领先最佳经典对手：{}。",
    "with {} and more on {}": "自 {} 起，{}",
    "on {}": "{}",
    "With the most rows that were asked a model is ahead of the best classical rival by more than chance on {}.": "在所问的最多行数下，有模型"
    "显著领先最佳经典对手：{}。",
    "{} overfits from step {} on: until step {} the loss on validation rows rose from {} to {}, while that on training "
    "rows fell from {} to {}; the gap grew from {} to {}.": "{} 自第 {} 步起过拟合：到第 {} 步，验证行上的损失从 {} 升至 {}，而训练行上的损失从 {} 降至"
    " {}；差距从 {} 扩大到 {}。",
    "The settings of {} were chosen among what {} minutes allowed: {} of {} trainings.": "{} 的设置是在 {} 分钟所允许的范围内选出的：{3} 次训练"
    "中的 {2} 次。",
}
"""English to Chinese; longer keys are tried before shorter ones."""
JOINTS: Mapping[str, str] = {
    " · ": " · ",
    "; ": "；",
    r"(?<=\)), ": "，",
    r"(?<=\)) and ": "和",
    ": ": "：",
    ", ": "，",
    " and ": "和",
    " / ": " / ",
}
"""Patterns of what joins the parts of a text, the outermost first."""


@cache
def chinese(text: str) -> str:
    """The text in Chinese; what the table has nothing for stays as it is."""
    found = CHINESE.get(text)
    if found is not None and "{" not in found:
        return found
    for pattern, shown in _patterns():
        match = pattern.fullmatch(text)
        if match is not None:
            return _filled(shown, [_part(part) for part in match.groups()])
    for joint, written in JOINTS.items():
        parts = re.split(joint, text)
        translated = [chinese(part) for part in parts] if len(parts) > 1 else parts
        if translated != parts:
            return written.join(translated)
    return text


def _part(text: str) -> str:
    """A part of a sentence; a list of names is joined as one."""
    found = chinese(text)
    return found.replace(" and ", "和") if found == text else found


def _filled(shown: str, parts: Sequence[str]) -> str:
    """Parts in their places: `{}` is the next one, `{2}` the third."""
    places = count()
    return re.sub(r"\{(\d*)\}", lambda found: parts[int(found[1]) if found[1] else next(places)], shown)


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str], ...]:
    """Keys with places as patterns, those with most letters first."""
    keys = sorted((key for key in CHINESE if "{" in key), key=lambda key: -len(re.sub(r"\{[#*]?\}", "", key)))
    return tuple((_pattern(key), CHINESE[key]) for key in keys)


def _pattern(key: str) -> re.Pattern[str]:
    """A part of a list ends where the next one begins; a sentence may hold lists, and begins behind whose it is."""
    is_sentence = key.endswith((".", ": {}"))
    text = r"(.+?)" if is_sentence else r"((?!and )(?:\[[^\]]*\]|(?!; | · |, | and ).)+?)"
    pieces = re.split(r"(\{[#*]?\})", key)
    places = {"{}": text, "{#}": r"([−+]?\d[\d.,]*)", "{*}": "(.+)"}
    found = [places.get(piece) or re.escape(piece) for piece in pieces]
    if key.startswith("{}"):
        found[1] = r"((?:(?!: ).)+?)" if is_sentence else r"((?:\[[^\]]*\]|(?!: |; | · |, | and ).)+?)"
    return re.compile("".join(found))


def translated(value: object, *, kept: frozenset[str]) -> object:
    """A copy of a value with all its texts in Chinese: of dataclasses, tuples and texts themselves.

    Args:
        kept: names of fields that stay as they are: what people or machines wrote.
    """
    if isinstance(value, str):
        return chinese(value)
    if isinstance(value, tuple):
        return tuple(translated(each, kept=kept) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        own = {each.name: getattr(value, each.name) for each in fields(value)}
        return replace(value, **{name: translated(each, kept=kept) for name, each in own.items() if name not in kept})
    return value
