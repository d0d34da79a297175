;; Has the reason that the engine gives faults.
;; where: start
;; expect: its reason `rule_fault` is one of the engine's own
(data $reserved (i32.const 24576) "rule_fault")
(func $on_configure (call $pair (i32.const 1092) (i32.const 24576) (i32.const 10)))
